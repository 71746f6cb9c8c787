import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { until } from './contract.ts';
import { withSpool } from './spool.ts';
import { openMoodyLog } from './spool-faults.fixture.ts';
import { openSpoolStore } from './spool-store.ts';

/** The spool in a real process that is killed while it spools and forwards. */
const CHILD = join(import.meta.dir, 'spool-child.fixture.ts');
const ROUNDS = 5;

/** Runs the child until it has spooled and its broker was well again, kills it soon after. @returns what it acked */
const runAndKill = async (dir: string): Promise<readonly string[]> => {
  const child = Bun.spawn([process.execPath, CHILD, dir], { stdout: 'pipe', stderr: 'inherit' });
  let printed = '';
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) printed += decoder.decode(chunk, { stream: true });
  })();
  await until('it spools and forwards', () => /spool.*broker/s.test(printed));
  await Bun.sleep(Math.random() * 300);
  child.kill('SIGKILL');
  await child.exited;
  await reading;
  // The last line may be half of one.
  return printed.split('\n').slice(0, -1);
};

test('kill -9 at any moment, in the middle of forwarding too, loses nothing that was acked', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-spool-kill-'));
  const acked: string[] = [];
  let left = 0;
  // A kill that found the spool empty shows little.
  for (let round = 0; round < ROUNDS || left === 0; round++) {
    acked.push(...(await runAndKill(dir)));
    const store = await openSpoolStore(join(dir, 'spool-pins.db'));
    left += store.totals().records;
    store.close();
  }
  const log = await openMoodyLog(dir);
  const metrics = createMetrics();
  const logger = createLogger('silent', 'test');
  const inlet = await withSpool(log, { dir, maxBytes: 1, deadlineMs: 5000, logger, metrics });
  await until('the spool is empty', async () => (await metrics.spoolRecords.get()).values[0]?.value === 0);
  const all = new Set((await log.values()).map((value) => value.split(' ')[0]));
  const spooled = acked.filter((line) => line.startsWith('spool')).map((line) => line.slice('spool '.length));
  const taken = acked.filter((line) => line.startsWith('broker')).map((line) => line.slice('broker '.length));
  expect([...spooled, ...taken].filter((value) => !all.has(value))).toEqual([]);
  await inlet.close();
  const store = await openSpoolStore(join(dir, 'spool-pins.db'));
  expect(store.totals()).toEqual({ records: 0, bytes: 0 });
  expect(store.read(0, 1, 1)).toEqual([]);
  store.close();
  await log.close();
  rmSync(dir, { recursive: true });
}, 120_000);
