import { afterAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProgram } from './program.ts';

setDefaultTimeout(120_000);

const dir = mkdtempSync(join(tmpdir(), 'pinflow-metrics-port-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('workers without an edge tell their metrics and how they are on METRICS_PORT, and nothing else', async () => {
  const env = { DATA_DIR: dir, METRICS_PORT: '0', CLEAN_CRON: 'off', API_KEYS: 'test:a-key-for-this-test' };
  const program = await startProgram(env, ['work'], /^metrics\s+(\S+)\/metrics/m);
  const get = (path: string, key?: string) =>
    fetch(`${program.url}${path}`, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } });
  expect((await get('/healthz')).status).toBe(200);
  const ready = (await (await get('/readyz')).json()) as { parts: { part: string }[] };
  expect(ready.parts.map(({ part }) => part).sort()).toEqual(['archive', 'clean', 'postgres', 'stream']);
  expect((await get('/metrics')).status).toBe(401);
  const page = await get('/metrics', 'a-key-for-this-test');
  expect(await page.text()).toContain('pinflow_worker_ready{worker="archive"}');
  expect((await get('/pin/', 'a-key-for-this-test')).status).toBe(404);
  expect(await program.kill('SIGTERM')).toBe(0);
});
