import type { BlobStore } from '../blob/blob.ts';
import type { Clock } from '../clock.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { SendDeadLetters } from '../log/dlq.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';
import { createSchedule } from '../schedule.ts';
import { createBatchRun, type RunReason, type RunSummary } from './batch-run.ts';
import { createObjectCleaner } from './clean-object.ts';
import { createRetrying } from './clean-retry.ts';
import type { CleanPoint } from './clean-run.ts';
import { createStoreWriter } from './clean-upsert.ts';
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
  /** As CLEAN_CRON and CLEAN_TIMEZONE. */
  readonly schedule: { readonly cron: string; readonly timezone: string };
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
   * hand while one is at work, the next begins after it, once for all who asked; a cron run that is due then is let go.
   */
  readonly runNow: (reason: RunReason) => Promise<RunSummary>;
};

/** Runs one at a time; who asks by hand while one is at work gets the next, one for all who asked. */
const oneAtATime = (run: (reason: RunReason) => Promise<RunSummary>) => {
  let current: Promise<RunSummary> | null = null;
  let waiting: Promise<RunSummary> | null = null;

  const begin = (reason: RunReason): Promise<RunSummary> => {
    const begun = run(reason).finally(() => {
      current = null;
    });
    current = begun;
    return begun;
  };

  const afterCurrent = async (): Promise<RunSummary> => {
    await current;
    waiting = null;
    return begin('manual');
  };

  return {
    ask: (reason: RunReason): Promise<RunSummary> => {
      if (current === null) return begin(reason);
      if (reason === 'cron') return current;
      waiting ??= afterCurrent();
      return waiting;
    },
    /** Resolves when nothing is at work or waiting. */
    idle: async (): Promise<void> => void (await (waiting ?? current)),
  };
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
  const batchRun = createBatchRun({ ...deps, retrying, reached, objects, writers, draining: draining.signal });

  const runs = oneAtATime(async (reason) => {
    const summary = await batchRun(reason);
    metrics.batchRuns.inc({ status: summary.status });
    if (summary.status !== 'skipped') metrics.batchRunSeconds.observe(summary.durationMs / 1000);
    if (summary.status === 'failed') status({ state: 'waiting', reason: summary.error ?? 'the batch run failed' });
    if (summary.status === 'done') status({ state: 'ready' });
    const level = summary.status === 'failed' ? 'warn' : summary.objects > 0 ? 'info' : 'debug';
    logger[level](summary, 'batch run ended');
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

  const schedule = createSchedule({ ...deps.schedule, run: () => runs.ask('cron'), logger });

  return {
    runNow: runs.ask,
    run: async () => {
      if (!draining.signal.aborted) schedule.start();
      void warmUp();
      await drained.promise;
    },
    drain: async () => {
      schedule.stop();
      draining.abort();
      await runs.idle();
      drained.resolve();
    },
  };
};
