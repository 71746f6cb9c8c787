import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, type Running, startProgram } from './program.ts';

const LONG_MS = 180_000;
const PINS = 50;
const fixture = (await Bun.file(join(import.meta.dir, '../fixtures/pins.ndjson')).text()).trim().split('\n');

let dir: string;
let program: Running;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-e2e-'));
  const often = { ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: '* * * * * *', RECONCILE_CRON: '*/3 * * * * *' };
  program = await startProgram({ DATA_DIR: dir, ...often });
}, LONG_MS);
afterAll(async () => {
  await program?.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

test(
  'reconcile runs by itself in a process of its own, and its result is in the metrics',
  async () => {
    const body = fixture.slice(0, PINS).join('\n');
    const headers = { 'Content-Type': 'application/x-ndjson' };
    expect((await fetch(`${program.url}/pins`, { method: 'POST', headers, body })).status).toBe(200);
    const page = await eventually('a reconcile that finds all places equal', LONG_MS, async () => {
      const text = await (await fetch(`${program.url}/metrics`)).text();
      return /^pinflow_reconcile_runs_total\{outcome="equal"\} [1-9]/m.test(text) ? text : null;
    });
    for (const place of ['archive', 'log', 'speed', 'embedded']) {
      expect(page).toMatch(new RegExp(`^pinflow_reconcile_different_pins\\{place="${place}"\\} 0$`, 'm'));
    }
    expect(await program.kill('SIGTERM')).toBe(0);
  },
  LONG_MS,
);
