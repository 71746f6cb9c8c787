import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, startProgram } from '../e2e/program.ts';
import { launchBrowser, openPage, PHONE } from './browser.ts';

/** Takes the pictures of the README anew, into docs/images: `bun test/browser/pictures.ts`. */
const INTO = join(import.meta.dir, '../../docs/images');
const RUNS_WANTED = 6;
const GIVE_UP_MS = 120_000;
const PICTURES = [
  { name: 'dashboard-light', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-dark', colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-phone', colorScheme: 'light', viewport: PHONE },
] as const;

mkdirSync(INTO, { recursive: true });
const dir = mkdtempSync(join(tmpdir(), 'pinflow-pictures-'));
const settings = { DATA_DIR: dir, CLEAN_CRON: '*/5 * * * * *', ARCHIVE_MAX_SECONDS: '3' };
const program = await startProgram(settings, ['up', '--emulate', '120']);
const browser = await launchBrowser();
const pages = await Promise.all(
  PICTURES.map(async ({ name, ...options }) => ({ name, page: (await openPage(browser, program.url, options)).page })),
);
await eventually('some batch runs', GIVE_UP_MS, async () => {
  const runs = await pages[0]?.page.locator('.run-grid button:not([data-level="0"])').count();
  return (runs ?? 0) >= RUNS_WANTED ? true : null;
});
for (const { name, page } of pages) await page.screenshot({ path: join(INTO, `${name}.png`) });
await browser.close();
await program.kill('SIGKILL');
rmSync(dir, { recursive: true, force: true });
