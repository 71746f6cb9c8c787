import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { source as axeSource } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { readConfig } from '../../src/config.ts';
import { somePin } from '../../src/edge/fixture.ts';
import { openLog } from '../../src/log/open.ts';
import { createLogger } from '../../src/logger.ts';
import { eventually, type Running, startProgram } from '../e2e/program.ts';
import { browserMissing, launchBrowser, openPage, PHONE, type Watched, WIDE } from './browser.ts';

/** The dashboard as a person uses it: the real program on its embedded parts, a real browser. */
const missing = browserMissing();
if (missing !== null) console.warn(`skipped: the dashboard in a browser: ${missing}`);

const TIMEOUT_MS = 120_000;
/** The first start of the embedded Postgres takes some seconds on a busy machine. */
const SETTLE_MS = 90_000;

const HOSTILE = [
  '<script>window.pwned = true</script>',
  '<img src=x onerror="window.pwned = true">',
  `"'><svg onload="window.pwned = true">`,
  'javascript:window.pwned=true',
  '\u0000\u0007 control signs',
  '\u202egnirts desrever',
  'שלום עולם',
  'w'.repeat(4000),
  '{{constructor.constructor("window.pwned = true")()}}',
] as const;

let dir: string;
let program: Running;
let browser: Browser;
const watched: Watched[] = [];

const env = () => ({ DATA_DIR: dir, ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: '*/2 * * * * *' });

const postPins = async (pins: readonly object[]): Promise<void> => {
  const response = await fetch(`${program.url}/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: pins.map((pin) => JSON.stringify(pin)).join('\n'),
  });
  expect(response.status).toBe(200);
};

const open = async (options: Parameters<typeof openPage>[2] = {}): Promise<Page> => {
  const opened = await openPage(browser, `${program.url}/`, options);
  watched.push(opened);
  return opened.page;
};

/** Waits until what a place of the page says is as wanted. */
const says = (page: Page, selector: string, wanted: (text: string) => boolean): Promise<string> =>
  eventually(`${selector} to say what it should`, SETTLE_MS, async () => {
    const text = (await page.locator(selector).first().textContent()) ?? '';
    return wanted(text) ? text : null;
  });

const numberIn = (text: string): number => Number(text.replaceAll(',', ''));
const pinsOf = (stage: string): string => `[data-stage="${stage}"] .stage-pins`;
const isLive = (page: Page) => says(page, '.connection', (text) => text === 'live');

type Violation = { readonly id: string; readonly nodes: readonly { readonly html: string }[] };

const violationsOf = async (page: Page): Promise<readonly string[]> => {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run: () => Promise<{ violations: readonly Violation[] }> } };
    return (await axe.run()).violations;
  });
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`);
};

describe.skipIf(missing !== null)('the dashboard in a browser', () => {
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'pinflow-browser-'));
    [program, browser] = await Promise.all([startProgram(env()), launchBrowser()]);
  }, TIMEOUT_MS);
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });
  afterAll(async () => {
    await browser.close();
    await program.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });

  test(
    'a pin posted by hand is answered, counted by every part, and its journey shown to its end',
    async () => {
      const page = await open();
      await isLive(page);
      await page.getByRole('button', { name: 'Post', exact: true }).click();
      await says(page, '#post .outcome', (text) => text.startsWith('Durable in the log at '));
      for (const stage of ['edge', 'log', 'archive', 'clean', 'stream'])
        await says(page, pinsOf(stage), (text) => numberIn(text) >= 1);
      await page.getByRole('button', { name: 'Where is it now?' }).click();
      await eventually('the pin in every place', SETTLE_MS, async () => {
        const steps = await page.locator('.steps li').evaluateAll((items) => items.map((item) => item.dataset.state));
        return steps.length === 4 && steps.every((state) => state === 'present') ? true : null;
      });
      expect(await page.locator('#find table').textContent()).toContain('893000');
    },
    TIMEOUT_MS,
  );

  test('a pin that is none is refused in the words of the server', async () => {
    const page = await open();
    await page.getByLabel('the pin as JSON').fill('{"category": 1}');
    await page.getByRole('button', { name: 'Post', exact: true }).click();
    await says(page, '#post .outcome .failed', (text) => text.includes('unique_id'));
  });

  test(
    'counts move as pins come, and the list of erroneous pins with them until it is held still',
    async () => {
      const page = await open();
      await isLive(page);
      const before = numberIn(await says(page, pinsOf('edge'), (text) => /\d/.test(text)));
      const erroneous = somePin({ title: 'No Title Data Available', follower_count: 'User Info Error' });
      await postPins([erroneous, ...Array.from({ length: 49 }, () => somePin())]);
      await says(page, pinsOf('edge'), (text) => numberIn(text) === before + 50);
      const row = page.locator('#errors tbody tr', { hasText: erroneous.unique_id });
      await row.waitFor({ timeout: SETTLE_MS });
      expect(await row.locator('.chips li').allTextContents()).toEqual(['title', 'follower_count']);

      await page.getByRole('button', { name: 'Hold still' }).click();
      const later = somePin({ title: null });
      await postPins([later]);
      await says(page, pinsOf('edge'), (text) => numberIn(text) === before + 51);
      await page.getByRole('button', { name: 'Go on' }).waitFor();
      expect(await page.locator('#errors tbody').textContent()).not.toContain(later.unique_id);
      await page.getByRole('button', { name: 'Go on' }).click();
      await page.locator('#errors tbody tr', { hasText: later.unique_id }).waitFor({ timeout: SETTLE_MS });

      await row.getByRole('button').click();
      await says(page, '#find .steps', (text) => text.includes('Speed view'));
      await says(page, '#find table', (text) => text.includes('missing'));
    },
    TIMEOUT_MS,
  );

  test(
    'a run opens from the grid by keyboard and from the table by mouse, and shows its objects',
    async () => {
      const page = await open();
      await eventually('a run with pins', SETTLE_MS, async () =>
        (await page.locator('.run-grid button:not([data-level="0"])').count()) > 0 ? true : null,
      );
      const full = page.locator('.run-grid button:not([data-level="0"])').first();
      await full.focus();
      await page.keyboard.press('ArrowRight');
      await page.keyboard.press('ArrowLeft');
      expect(await full.evaluate((button) => button === document.activeElement)).toBe(true);
      await page.keyboard.press('Enter');
      await says(page, 'dialog tbody', (text) => text.includes('.ndjson.gz'));
      expect(await violationsOf(page)).toEqual([]);
      await page.keyboard.press('Escape');
      await page.locator('dialog').waitFor({ state: 'detached' });
      await page.locator('#runs tbody button').first().click();
      await says(page, 'dialog h2', (text) => text.startsWith('Batch run '));
      await page.getByRole('button', { name: 'Close' }).click();
      await page.locator('dialog').waitFor({ state: 'detached' });
    },
    TIMEOUT_MS,
  );

  test(
    'SQL over both views comes as table and chart; a write is refused and nothing is changed',
    async () => {
      const page = await open();
      const ask = async (sql: string) => {
        await page.getByLabel('one statement').fill(sql);
        await page.getByRole('button', { name: 'Run', exact: true }).click();
      };
      await ask('select category, count(*) as pins from pins group by 1');
      await says(page, '#sql .outcome', (text) => /^\d+ rows? in /.test(text));
      expect(await page.locator('#sql tbody').textContent()).toContain('tattoos');
      expect(await page.locator('#sql .bars').textContent()).toContain('tattoos');
      await page.getByRole('radio', { name: 'batch view' }).check();
      await ask('select count(*) as batch_pins from userposts');
      await says(page, '#sql table', (text) => text.startsWith('batch_pins'));
      await ask('delete from userposts');
      await says(page, '#sql .outcome .failed', (text) => text.includes('only reading is allowed'));
      await page.getByRole('radio', { name: 'speed view' }).check();
      await ask('with gone as (delete from pins returning 1) select count(*) from gone');
      await says(page, '#sql .outcome .failed', (text) => text.includes('read-only transaction'));
      await ask('select count(*) > 0 as still_there from pins');
      await says(page, '#sql tbody', (text) => text === 'true');
    },
    TIMEOUT_MS,
  );

  test(
    'a record that is no pin comes as a dead letter, which can be looked at and dropped',
    async () => {
      const log = await openLog(readConfig({ DATA_DIR: dir }), { logger: createLogger('silent', 'browser') });
      await log.append([{ key: 'x', value: new TextEncoder().encode('<b>no pin</b>') }]);
      await log.close();
      const page = await open();
      await says(page, '[data-total="dead-letters"]', (text) => numberIn(text) > 0);
      await page.locator('#dlq tbody button').first().click();
      await says(page, 'dialog pre', (text) => text === '<b>no pin</b>');
      await page.getByRole('button', { name: 'Send again' }).click();
      await says(page, 'dialog .outcome .failed', (text) => text.includes('still no pin'));
      const drop = async () => {
        await page.getByRole('button', { name: 'Drop…' }).click();
        await page.getByRole('button', { name: 'Drop for good' }).click();
        await page.locator('dialog').waitFor({ state: 'detached' });
      };
      await drop();
      await eventually('no letter left', SETTLE_MS, async () => {
        const letters = await page.locator('#dlq tbody button').count();
        if (letters === 0) return true;
        await page.locator('#dlq tbody button').first().click();
        await drop();
        return null;
      });
    },
    TIMEOUT_MS,
  );

  test(
    'hostile pins are shown as text, run nothing and widen nothing',
    async () => {
      const pins = HOSTILE.map((text) =>
        somePin({ title: text, category: text, save_location: text, follower_count: 'User Info Error' }),
      );
      await postPins(pins);
      const page = await open();
      for (const viewport of [PHONE, WIDE]) {
        await page.setViewportSize(viewport);
        for (const { unique_id } of pins)
          await page.locator('#errors tbody tr', { hasText: unique_id }).waitFor({ timeout: SETTLE_MS });
        const shown = (await page.locator('#errors tbody').textContent()) ?? '';
        expect(shown).toContain(HOSTILE[0]);
        expect(shown).toContain('‹U+202E›gnirts desrever');
        for (const { unique_id } of pins) {
          await page.getByRole('button', { name: unique_id }).first().click();
          await says(page, '#find .steps', (text) => text.includes('Speed view'));
        }
        await page.getByLabel('one statement').fill('select * from pins where is_error');
        await page.getByRole('button', { name: 'Run', exact: true }).click();
        await says(page, '#sql .outcome', (text) => /rows? in /.test(text));
        expect(await page.evaluate(() => 'pwned' in window)).toBe(false);
        expect(await page.locator('main script, main img, main svg[onload]').count()).toBe(0);
        const overflow = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        expect(overflow).toBe(0);
      }
    },
    TIMEOUT_MS,
  );

  test(
    'axe finds nothing wrong with the full page, in light and dark, on a phone and a wide screen',
    async () => {
      const page = await open();
      await isLive(page);
      await page.locator('#errors tbody tr').first().waitFor({ timeout: SETTLE_MS });
      await page.locator('#errors tbody button').first().click();
      await says(page, '#find .steps', (text) => text.includes('Speed view'));
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      await says(page, '#sql .outcome', (text) => /rows? in /.test(text));
      for (const details of await page.locator('summary').all()) await details.click();
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        for (const viewport of [PHONE, WIDE]) {
          await page.setViewportSize(viewport);
          expect(await violationsOf(page)).toEqual([]);
        }
      }
    },
    TIMEOUT_MS,
  );

  test(
    'a server that is killed and comes back is said to be away, and then followed again',
    async () => {
      const page = await open();
      await isLive(page);
      const { port } = new URL(program.url);
      await program.kill('SIGKILL');
      await says(page, '.connection', (text) => text.includes('away'));
      program = await startProgram({ ...env(), PORT: port });
      await isLive(page);
      const before = numberIn(await says(page, pinsOf('edge'), (text) => /\d/.test(text)));
      await postPins([somePin()]);
      await says(page, pinsOf('edge'), (text) => numberIn(text) === before + 1);
    },
    TIMEOUT_MS,
  );

  test('nothing of all this was a fault of the script, broke the policy or opened a dialogue', () => {
    expect(watched.length).toBeGreaterThan(5);
    expect(watched.flatMap(({ faults }) => faults)).toEqual([]);
  });
});

describe.skipIf(missing !== null)('with API_KEYS', () => {
  const KEY = 'a-key-of-enough-characters';
  let locked: Running;
  let own: string;
  let keyBrowser: Browser;
  beforeAll(async () => {
    own = mkdtempSync(join(tmpdir(), 'pinflow-browser-'));
    const settings = { DATA_DIR: own, API_KEYS: `someone:${KEY}` };
    [locked, keyBrowser] = await Promise.all([startProgram(settings), launchBrowser()]);
  }, TIMEOUT_MS);
  afterAll(async () => {
    await keyBrowser.close();
    await locked.kill('SIGKILL');
    rmSync(own, { recursive: true, force: true });
  });

  test(
    'the page asks for a key, says when it is wrong, and keeps the right one in its tab only',
    async () => {
      const { page, faults } = await openPage(keyBrowser, `${locked.url}/`);
      await page.getByLabel('API key').fill('not the key at all');
      expect(await violationsOf(page)).toEqual([]);
      await page.getByRole('button', { name: 'Open' }).click();
      await says(page, '.outcome .failed', (text) => text.includes('not one of API_KEYS'));
      await page.getByLabel('API key').fill(KEY);
      await page.getByRole('button', { name: 'Open' }).click();
      await isLive(page);
      await page.getByRole('button', { name: 'Post', exact: true }).click();
      await says(page, '#post .outcome', (text) => text.startsWith('Durable in the log'));
      await page.reload();
      await isLive(page);
      const storage = await page.evaluate(() => [localStorage.length, document.cookie]);
      expect(storage).toEqual([0, '']);
      const another = await openPage(keyBrowser, `${locked.url}/`);
      await another.page.getByLabel('API key').waitFor();
      expect([...faults, ...another.faults]).toEqual([]);
      const seen = await (await fetch(`${locked.url}/status`, { headers: { authorization: `Bearer ${KEY}` } })).text();
      expect(seen).not.toContain(KEY);
    },
    TIMEOUT_MS,
  );
});
