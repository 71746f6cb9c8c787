import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from './config.ts';
import { createLogger } from './logger.ts';
import { createMetrics, retireMetrics } from './metrics.ts';
import { createSupervisor, type Supervisor } from './supervisor.ts';

/** On real threads. */
const DEADLINE_MS = 60_000;

let dir: string;
let supervisor: Supervisor;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-supervisor-'));
});
afterEach(async () => {
  await supervisor?.drain([['archive', 'clean', 'stream']], 5000);
  rmSync(dir, { recursive: true, force: true });
});

const until = async (what: string, condition: () => boolean) => {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`did not happen within ${DEADLINE_MS} ms: ${what}`);
    await Bun.sleep(20);
  }
};

const start = (env: Readonly<Record<string, string>>, workers: Readonly<Record<string, number>>) => {
  const config = readConfig({ DATA_DIR: dir, LOG_LEVEL: 'silent', ...env });
  const metrics = createMetrics();
  supervisor = createSupervisor({ config, workers, logger: createLogger('silent', 'test'), metrics });
  supervisor.start();
  return metrics;
};

const stateOf = (name: string) => supervisor.states().find((worker) => worker.name === name);

test('a worker that throws is started again and again, with the reason, and is counted', async () => {
  // The log cannot be opened with this, so the thread throws at each start.
  const metrics = start(
    { KAFKA_BROKERS: '127.0.0.1:1', KAFKA_TLS: 'true', KAFKA_TLS_CA_FILE: '/nowhere' },
    { archive: 1 },
  );
  await until('three restarts', () => (stateOf('archive')?.restarts ?? 0) >= 3);
  expect(stateOf('archive')?.detail).toContain('KAFKA_TLS_CA_FILE');
  const restarts = (await metrics.workerRestarts.get()).values.find(({ labels }) => labels.role === 'archive');
  expect(restarts?.value).toBeGreaterThanOrEqual(3);
});

test('each worker of a role has its name, gets ready, posts metrics and drains', async () => {
  start({}, { archive: 2 });
  await until('both ready', () => ['archive-1', 'archive-2'].every((name) => stateOf(name)?.state === 'ready'));
  await until('metrics of both', () => supervisor.metrics().filter((posted) => posted.length > 0).length === 2);
  await supervisor.drain([['archive']], 10_000);
  expect(supervisor.states().map((worker) => worker.state)).toEqual(['drained', 'drained']);
  expect(supervisor.states().map((worker) => worker.restarts)).toEqual([0, 0]);
});

test('threads that are ended where they stand are replaced', async () => {
  start({}, { archive: 2 });
  await until('both ready', () => supervisor.states().every(({ state }) => state === 'ready'));
  expect(supervisor.end('archive')).toBe(2);
  await until('both ready again', () =>
    supervisor.states().every(({ state, restarts }) => state === 'ready' && restarts === 1),
  );
});

test('a worker that waits for its engine says why, and drains all the same', async () => {
  start({ DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' }, { stream: 1 });
  await until('waiting', () => stateOf('stream')?.state === 'waiting');
  expect(stateOf('stream')?.detail).toContain('DATABASE_URL');
  await supervisor.drain([['stream']], 10_000);
  expect(stateOf('stream')?.state).toBe('drained');
});

test('the counters of a replaced thread stay in the sum, its gauges do not', async () => {
  const metrics = createMetrics();
  metrics.archivedPins.inc(5);
  metrics.deadLetters.inc({ stage: 'clean' }, 2);
  metrics.streamBatchSeconds.observe(0.003);
  metrics.consumerLag.set({ group: 'g', partition: 0 }, 9);
  const posted = await metrics.registry.getMetricsAsJSON();
  const twice = retireMetrics(retireMetrics([], posted), posted) as {
    name: string;
    values: { value: number; metricName?: string; labels: { stage?: string } }[];
  }[];
  const valuesOf = (name: string) => twice.find((metric) => metric.name === name)?.values;
  expect(valuesOf('pinflow_archive_pins_total')?.[0]?.value).toBe(10);
  expect(valuesOf('pinflow_dlq_records_total')?.find(({ labels }) => labels.stage === 'clean')?.value).toBe(4);
  expect(valuesOf('pinflow_stream_batch_seconds')?.find((v) => v.metricName?.endsWith('_count'))?.value).toBe(2);
  expect(valuesOf('pinflow_consumer_lag_records')).toBeUndefined();
});
