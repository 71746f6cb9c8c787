import { afterAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProgram } from './program.ts';

setDefaultTimeout(120_000);

const dirs: string[] = [];
afterAll(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});
const METRICS_URL = /^metrics\s+(\S+)\/metrics/m;

const settings = () => {
  const DATA_DIR = mkdtempSync(join(tmpdir(), 'pinflow-metrics-port-'));
  dirs.push(DATA_DIR);
  return { DATA_DIR, METRICS_PORT: '0', CLEAN_CRON: 'off', API_KEYS: 'test:a-key-for-this-test' };
};
const getter = (url: string) => (path: string, key?: string) =>
  fetch(`${url}${path}`, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } });
const partsOf = async (response: Response) =>
  ((await response.json()) as { parts: readonly { readonly part: string }[] }).parts.map(({ part }) => part).sort();

test('workers without an edge tell their metrics and how they are on METRICS_PORT, and nothing else', async () => {
  const program = await startProgram(settings(), ['work'], METRICS_URL);
  const get = getter(program.url);
  expect((await get('/healthz')).status).toBe(200);
  expect(await partsOf(await get('/readyz'))).toEqual(['archive', 'clean', 'postgres', 'stream']);
  expect((await get('/metrics')).status).toBe(401);
  const page = await get('/metrics', 'a-key-for-this-test');
  expect(await page.text()).toContain('pinflow_worker_ready{worker="archive"}');
  expect((await get('/pin/', 'a-key-for-this-test')).status).toBe(404);
  expect(await program.kill('SIGTERM')).toBe(0);
});

test('an edge tells the same there as on its own port, its log among the parts', async () => {
  const program = await startProgram(settings(), ['edge'], METRICS_URL);
  const get = getter(program.url);
  const onEdge = getter(/^edge\s+(\S+)/m.exec(program.output())?.[1] ?? '');
  expect((await get('/healthz')).status).toBe(200);
  for (const ask of [get, onEdge]) {
    expect(await partsOf(await ask('/readyz'))).toEqual(['log (sqlite)', 'postgres']);
    expect((await ask('/metrics')).status).toBe(401);
    const page = await ask('/metrics', 'a-key-for-this-test');
    expect(await page.text()).toContain('pinflow_edge_pins_total{outcome="accepted"} 0');
  }
  expect((await get('/pin/', 'a-key-for-this-test')).status).toBe(404);
  expect((await onEdge('/status', 'a-key-for-this-test')).status).toBe(200);
  expect(await program.kill('SIGTERM')).toBe(0);
});
