import { existsSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

/** Debian's; the tests bring no browser of their own. */
const CHROMIUM = '/usr/bin/chromium';

/** Why no browser test can run here, or null. */
export const browserMissing = (): string | null =>
  existsSync(CHROMIUM) ? null : `there is no ${CHROMIUM}: apt-get install chromium`;

/** A container's root has no user namespace to build a sandbox with; the pages are this program's own. */
export const launchBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage'] });

export const PHONE = { width: 390, height: 844 } as const;
export const WIDE = { width: 1280, height: 800 } as const;

export type Watched = {
  readonly page: Page;
  /** What the page's console and its failed scripts said, and every dialogue that opened: all are faults. */
  readonly faults: readonly string[];
};

/** Chromium says so of every answer that is not 2xx; those are asserted where they are wanted. */
const EXPECTED = /^Failed to load resource/;

export const openPage = async (
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Watched> => {
  const context = await browser.newContext({ viewport: WIDE, reducedMotion: 'reduce', locale: 'en-GB', ...options });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' && !EXPECTED.test(message.text())) faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('dialog', (dialog) => {
    faults.push(`a dialogue: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(url);
  return { page, faults };
};
