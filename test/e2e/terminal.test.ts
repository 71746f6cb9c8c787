import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { environment, eventually } from './program.ts';

/** `dev --emulate` as a person sees it: on a terminal, ended by Ctrl-C. */
const CLI = join(import.meta.dir, '../../src/cli.ts');
const COLUMNS = 100;
const SETTLE_MS = 60_000;
/** What draws a line anew: back to its start, and erase it. */
const REDRAW = '\r\x1b[2K';
const CTRL_C = '\x03';

const dir = mkdtempSync(join(tmpdir(), 'pinflow-terminal-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test(
  'one command shows a living pipeline: a status line refreshed in place whose counts rise, and Ctrl-C drains and exits 0',
  async () => {
    let shown = '';
    const decoder = new TextDecoder();
    const data = (_: unknown, bytes: Uint8Array) => {
      shown += decoder.decode(bytes, { stream: true });
    };
    const child = Bun.spawn([process.execPath, CLI, 'up', '--emulate', '50'], {
      env: environment({ DATA_DIR: dir, ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: '* * * * * *' }),
      terminal: { cols: COLUMNS, rows: 24, data },
    });
    try {
      const counts = () =>
        shown
          .split(REDRAW)
          .slice(1)
          .map((line) =>
            /pins in (\d+) · archived (\d+) · cleaned (\d+) · streamed (\d+)/.exec(line)?.slice(1).map(Number),
          )
          .filter((numbers) => numbers !== undefined);
      await eventually('pins in every place', SETTLE_MS, async () =>
        counts()
          .at(-1)
          ?.every((count) => count > 100)
          ? true
          : null,
      );
      const pinsIn = counts().map(([pins]) => pins as number);
      expect(pinsIn.length).toBeGreaterThan(2);
      expect(pinsIn).toEqual(pinsIn.toSorted((a, b) => a - b));
      for (const line of shown.split(REDRAW).slice(1)) expect(line.split('\r')[0]?.length).toBeLessThan(COLUMNS);
      for (const word of ['edge', 'dashboard', 'metrics', 'Postgres', 'data'])
        expect(shown).toMatch(new RegExp(`^${word} `, 'm'));
      child.terminal?.write(CTRL_C);
      expect(await child.exited).toBe(0);
      expect(shown).toContain('drained');
    } finally {
      child.kill('SIGKILL');
      child.terminal?.close();
    }
  },
  { timeout: 2 * SETTLE_MS },
);
