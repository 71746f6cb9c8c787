import type { BlobStore } from '../blob/blob.ts';
import type { Clock } from '../clock.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { SendDeadLetters } from '../log/dlq.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';
import { createSchedule, type Schedule } from '../schedule.ts';
import type { Tracing } from '../tracing/tracing.ts';
import { createBatchRun, isScheduled, type RunOrder, type RunReason, type RunSummary } from './batch-run.ts';
import { createObjectCleaner } from './clean-object.ts';
import { createRetrying } from './clean-retry.ts';
import type { CleanPoint } from './clean-run.ts';
import { createStoreWriter } from './clean-upsert.ts';
import { createCleanWatch, type WatchPolicy } from './clean-watch.ts';
import type { Worker, WorkerStatus } from './protocol.ts';

/** Between two looks whether the engines are there, at the start. */
const WARM_UP = { attempts: Number.POSITIVE_INFINITY, baseMs: 250, maxMs: 10_000, retryable: () => true };

export type CleanerDeps = {
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
  readonly database: Database;
  readonly sendDeadLetters: SendDeadLetters;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly status: (status: WorkerStatus) => void;
  /** Off when absent. */
  readonly tracing?: Tracing;
  /** As CLEAN_CRON and CLEAN_TIMEZONE. */
  readonly schedule: { readonly cron: string; readonly timezone: string };
  /** What happens beside the cron times. (Default: as the settings) */
  readonly policy?: Partial<WatchPolicy>;
  /** How long runs stay in the ledger. (Default: 30) */
  readonly keptDays?: number;
  /** A run that takes longer is ended and taken up by the next. */
  readonly timeoutSeconds: number;
  /** For people: which process this is. */
  readonly holder: string;
  /** How long a dead holder keeps others out, milliseconds. (Default: 30,000) */
  readonly leaseTtlMs?: number;
  /** For tests: told when a run reaches a point where a crash would be worth something. */
  readonly reached?: (point: CleanPoint) => void;
};

export type Cleaner = Worker & {
  /**
   * One batch run. Never rejects: what went wrong is in the summary. One at a time: asked for by
   * hand while one is at work, the next begins after it, once for all who asked the same; a cron run that is due then is let go.
   */
  readonly runNow: (reason: RunReason, order?: RunOrder) => Promise<RunSummary>;
  /** One look at what is due or late beside the cron times; a running worker does so four times a minute. */
  readonly look: () => Promise<void>;
};

/** As the defaults of CLEAN_*: the seed's Airflow made one retry after five minutes and did not catch up. */
const POLICY: WatchPolicy = {
  catchUp: false,
  jitterSeconds: 0,
  retries: 1,
  retrySeconds: 300,
  longFactor: 5,
  lateMinutes: 15,
};
const KEPT_DAYS = 30;

type Run = (reason: RunReason, order?: RunOrder) => Promise<RunSummary>;

/** Runs one at a time; who asks by hand while one is at work gets the next, one for all who asked. */
const oneAtATime = (run: Run) => {
  let current: Promise<RunSummary> | null = null;
  let waiting: Promise<RunSummary> | null = null;
  const begin: Run = (reason, order) => {
    const begun = run(reason, order).finally(() => {
      current = null;
    });
    current = begun;
    return begun;
  };
  const afterCurrent: Run = async (reason, order) => {
    await current;
    waiting = null;
    return begin(reason, order);
  };
  const ask: Run = async (reason, order) => {
    if (current === null) return begin(reason, order);
    if (isScheduled(reason)) return current;
    if (reason === 'manual') {
      waiting ??= afterCurrent(reason, order);
      return waiting;
    }
    // What someone asked for with an order of its own is for nobody else.
    await (waiting ?? current);
    return ask(reason, order);
  };
  return {
    ask,
    /** Resolves when nothing is at work or waiting. */
    idle: async (): Promise<void> => void (await (waiting ?? current)),
  };
};

const countQuality = (metrics: Metrics, { quality }: RunSummary) => {
  for (const [rule, times] of Object.entries(quality.rules)) metrics.cleanRules.inc({ rule }, times);
  for (const [field, texts] of Object.entries(quality.placeholders)) {
    for (const times of Object.values(texts)) metrics.cleanPlaceholders.inc({ field }, times);
  }
};

/** @throws PinflowError `config` when the schedule cannot be read */
export const createCleaner = (deps: CleanerDeps): Cleaner => {
  const { database, store, logger, metrics, status } = deps;
  const retrying = createRetrying(deps);
  const reached = deps.reached ?? (() => {});
  const writers = deps.pinStores.map((pinStore) => createStoreWriter({ store: pinStore, retrying, reached }));
  const objects = createObjectCleaner({ ...deps, retrying });
  const draining = new AbortController();
  const drained = Promise.withResolvers<void>();
  const policy = { ...POLICY, ...deps.policy };
  const keptDays = deps.keptDays ?? KEPT_DAYS;
  const batchRun = createBatchRun({
    ...deps,
    retrying,
    reached,
    objects,
    writers,
    keptDays,
    draining: draining.signal,
  });

  const runs = oneAtATime(async (reason, order) => {
    const span = deps.tracing?.span('batch run', { kind: 'internal', attributes: { reason } });
    const summary = await batchRun(reason, order);
    const { status: ending, objects, pins } = summary;
    span?.end({ attributes: { status: ending, objects, pins }, error: summary.error ?? undefined });
    countQuality(metrics, summary);
    if (summary.status === 'done') metrics.batchLastDone.set(deps.clock.now() / 1000);
    metrics.batchRuns.inc({ status: summary.status });
    if (summary.status !== 'skipped') metrics.batchRunSeconds.observe(summary.durationMs / 1000);
    if (summary.status === 'failed') status({ state: 'waiting', reason: summary.error ?? 'the batch run failed' });
    if (summary.status === 'done') status({ state: 'ready' });
    const level = summary.status === 'failed' ? 'warn' : summary.objects > 0 ? 'info' : 'debug';
    const { quality: _, ...counts } = summary;
    logger[level](counts, 'batch run ended');
    return summary;
  });

  /** Says what is not there yet until all of it is; runs go on meanwhile with what is there. */
  const warmUp = async () => {
    const look = async () => {
      await Promise.all([database.check(), store.check(), ...writers.map((writer) => writer.prepare())]);
      status({ state: 'ready' });
    };
    const onRetry = (error: unknown) => status({ state: 'waiting', reason: messageOf(error) });
    await retry(look, { ...WARM_UP, signal: draining.signal, onRetry }).catch(() => {});
  };

  const { jitterSeconds } = policy;
  const runDue = (due: Date) => runs.ask('cron', { due, since: schedule.previous(due) });
  const schedule: Schedule = createSchedule({ ...deps.schedule, jitterSeconds, run: runDue, logger });
  const stores = writers.map((writer) => writer.name);
  const watch = createCleanWatch({ ...deps, retrying, stores, schedule, policy, ask: runs.ask });

  return {
    runNow: runs.ask,
    look: watch.look,
    run: async () => {
      if (!draining.signal.aborted) schedule.start();
      void warmUp();
      const watching = watch.run(draining.signal);
      await drained.promise;
      await watching;
    },
    drain: async () => {
      schedule.stop();
      draining.abort();
      await runs.idle();
      drained.resolve();
    },
  };
};
