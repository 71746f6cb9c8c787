import { expect, test } from 'bun:test';
import { createLogger } from './logger.ts';
import { createMetrics } from './metrics.ts';
import type { ReconcileAnswer } from './reconcile-child.ts';
import { createReconcileSchedule } from './reconcile-schedule.ts';

const equal: ReconcileAnswer = {
  equal: true,
  counts: { archive: 2, log: 2, speed: 2, embedded: 2 },
  chainBreaks: [],
  notYetArchived: 0,
  rejects: 0,
  differences: 0,
  differencesByPlace: { log: 0, speed: 0, embedded: 0 },
  examples: [],
};

const different: ReconcileAnswer = {
  ...equal,
  equal: false,
  chainBreaks: ['partition 0'],
  notYetArchived: 2,
  differences: 4,
  differencesByPlace: { log: 0, speed: 4, embedded: 0 },
};

const deps = {
  cron: '* * * * * *',
  timezone: 'UTC',
  clock: { now: () => 1_700_000_000_000 },
  logger: createLogger('silent', 'test'),
};

/** The Prometheus page once the schedule has got this answer. */
const pageAfter = async (answer: ReconcileAnswer): Promise<string> => {
  const metrics = createMetrics();
  const asked = Promise.withResolvers<void>();
  const ask = async () => {
    asked.resolve();
    return answer;
  };
  const schedule = createReconcileSchedule({ ...deps, metrics, ask });
  schedule.start();
  await asked.promise;
  await new Promise(setImmediate);
  schedule.stop();
  return metrics.registry.metrics();
};

test('shows when it last compared, and what differs by place', async () => {
  const page = await pageAfter(different);
  expect(page).toContain('pinflow_reconcile_last_run_timestamp_seconds 1700000000\n');
  expect(page).toContain('pinflow_reconcile_different_pins{place="speed"} 4\n');
  expect(page).toContain('pinflow_reconcile_different_pins{place="embedded"} 0\n');
  expect(page).toContain('pinflow_reconcile_different_pins{place="archive"} 3\n');
  expect(page).toContain('pinflow_reconcile_runs_total{outcome="different"} 1\n');
});

test('equal places count as such, and what could not be compared says nothing of them', async () => {
  expect(await pageAfter(equal)).toContain('pinflow_reconcile_runs_total{outcome="equal"} 1\n');
  const failed = await pageAfter({ error: 'away' });
  expect(failed).toContain('pinflow_reconcile_runs_total{outcome="failed"} 1\n');
  expect(failed).not.toContain('pinflow_reconcile_different_pins{');
});

test('off by itself, and a wrong expression names its setting', () => {
  const metrics = createMetrics();
  const ask = () => Promise.reject(new Error('not to be asked'));
  createReconcileSchedule({ ...deps, metrics, ask, cron: 'off' }).start();
  expect(() => createReconcileSchedule({ ...deps, metrics, ask, cron: 'often' })).toThrow(/^RECONCILE_CRON="often"/);
});
