import { type BlobStore, ONE_ARCHIVE_WORKER } from '../blob/blob.ts';
import type { Clock } from '../clock.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Consumer, ConsumerHandler, PartitionState, PinLog } from '../log/log.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry, sleep } from '../retry.ts';
import { type Tracing, traced } from '../tracing/tracing.ts';
import { type ArchivePoint, archiveConflict, extendChain, findStart } from './archive-chain.ts';
import { type ArchiveLimits, type ArchivePartition, createArchivePartition } from './archive-partition.ts';
import type { Worker, WorkerStatus } from './protocol.ts';

/** One read of the log: large enough for its speed, small beside an object. */
const READ_RECORDS = 5000;
const READ_BYTES = 4 * 1024 * 1024;
/** How often ages are looked at, milliseconds: an object is at most this much older than its limit. */
const TICK_MS = 100;
/** Between tries of one call, milliseconds: the first wait, and the longest. */
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 10_000;
/** Tries in all where the group waits meanwhile, for what passes at once. */
const START_ATTEMPTS = 4;
/** Between tries of the whole when something has to be put right by a person, milliseconds. */
const RESTART_FIRST_MS = 500;
const RESTART_MAX_MS = 30_000;
/** A session that has not failed for this long may be called ready, milliseconds: it may be a member without partitions. */
const SETTLED_MS = 30_000;
/**
 * Bytes buffered over all partitions, or two objects where those are larger. Beyond it a partition writes what it has, so that
 * many partitions make smaller objects instead of taking more memory.
 */
const MAX_HELD_BYTES = 128 * 1024 * 1024;

export type ArchiverDeps = {
  readonly log: PinLog;
  readonly store: BlobStore;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly status: (status: WorkerStatus) => void;
  /** Off when absent. */
  readonly tracing?: Tracing;
  readonly limits: ArchiveLimits;
  /** Consumer group. */
  readonly group: string;
  /** For tests: called at the points where a death would matter most. */
  readonly reached?: (point: ArchivePoint) => void;
};

type Patiently = <T>(engine: string, signal: AbortSignal, work: () => Promise<T>) => Promise<T>;

/** Calls that are tried until they succeed or cannot; while any of them fails, the worker says that it waits and for what. */
const createPatience = ({ metrics, logger, status }: ArchiverDeps): Patiently => {
  const troubled = new Set<symbol>();
  return async (engine, signal, work) => {
    const call = Symbol(engine);
    try {
      return await retry(work, {
        attempts: Number.POSITIVE_INFINITY,
        baseMs: RETRY_FIRST_MS,
        maxMs: RETRY_MAX_MS,
        signal,
        onRetry: (error, attempt) => {
          troubled.add(call);
          metrics.retries.inc({ engine });
          logger.warn({ engine, attempt, error: messageOf(error) }, 'archiving waits and tries again');
          status({ state: 'waiting', reason: messageOf(error) });
        },
      });
    } finally {
      if (troubled.delete(call) && troubled.size === 0) status({ state: 'ready' });
    }
  };
};

type SessionDeps = ArchiverDeps & { readonly patiently: Patiently; readonly stop: AbortSignal };

/** Makes a partition of the archive, writing through this consumer's membership. */
const openPartition = (deps: SessionDeps, consumer: () => Consumer) => {
  const { log, store, metrics, limits, clock, patiently, stop, tracing, reached = () => {} } = deps;
  return (state: PartitionState): ArchivePartition => {
    const { partition } = state;
    return createArchivePartition({
      ...state,
      limits,
      clock,
      conflict: (what) => archiveConflict(store, log.topic, what),
      extend: async (object, gone, parents) => {
        const chain = { store, topic: log.topic, reached };
        const signal = AbortSignal.any([gone, stop]);
        const put = async () => {
          const stopTimer = metrics.archivePutSeconds.startTimer();
          const done = await extendChain(chain, object);
          stopTimer();
          return done;
        };
        const attributes = { partition, key: object.entry.key, 'messaging.batch.message_count': object.entry.pins };
        const extended = await traced(tracing, 'archive put', parents, attributes, () =>
          patiently(store.kind, signal, put),
        );
        const { entry, added } = extended;
        const isOurs = added && entry.sha256 === object.entry.sha256;
        metrics.archiveObjects.inc({ outcome: isOurs ? 'created' : 'adopted' });
        if (added) {
          metrics.archivedPins.inc(entry.pins);
          metrics.archivedBytes.inc(entry.bytes);
        }
        return extended;
      },
      commit: async (nextOffset, gone) => {
        try {
          await patiently(log.kind, AbortSignal.any([gone, stop]), () => consumer().commit(partition, nextOffset));
          return true;
        } catch (error) {
          if (isPinflowError(error, 'fenced')) return false;
          throw error;
        }
      },
    });
  };
};

type Held = Map<number, ArchivePartition>;

const createHandler = (
  deps: SessionDeps,
  held: Held,
  open: ReturnType<typeof openPartition>,
  fail: (error: unknown) => void,
): ConsumerHandler => {
  const { log, group, metrics, limits, status, stop } = deps;
  const maxHeldBytes = Math.max(MAX_HELD_BYTES, 2 * limits.maxBytes);
  return {
    assigned: async (partitions) => {
      const committed = await log.committed(group);
      const patience = { attempts: START_ATTEMPTS, baseMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, signal: stop };
      const starts = await Promise.all(
        partitions.map((partition) => retry(() => findStart(deps, partition, committed.get(partition)), patience)),
      );
      for (const found of starts) {
        const archive = open(found);
        archive.failed.catch(fail);
        held.set(found.partition, archive);
      }
      status({ state: 'ready' });
      return new Map(starts.map(({ partition, start }) => [partition, start]));
    },
    batch: async (batch) => {
      const archive = held.get(batch.partition);
      // Left in the log while draining: what is not buffered is not committed either.
      if (archive === undefined || stop.aborted) return;
      await archive.take(batch);
      const heldBytes = held.values().reduce((sum, one) => sum + one.bytes(), 0);
      if (heldBytes > maxHeldBytes) await archive.flush();
    },
    revoked: async (partitions) => {
      for (const partition of partitions) {
        held.get(partition)?.abandon();
        held.delete(partition);
        metrics.consumerLag.remove({ group, partition: String(partition) });
      }
    },
  };
};

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

/** Consumes until `stop` aborts, then writes what is buffered. @throws what keeps it from going on */
const runSession = async (deps: SessionDeps): Promise<void> => {
  const { log, store, group, metrics, logger, status, stop } = deps;
  const check = store.check();
  check.catch(() => {});
  await Promise.race([check, aborted(stop)]);
  if (stop.aborted) return;
  if (!store.supports.conditionalPut) logger.warn({ store: store.location }, ONE_ARCHIVE_WORKER);
  const held: Held = new Map();
  const failure = Promise.withResolvers<never>();
  const handler = createHandler(
    deps,
    held,
    openPartition(deps, () => consumer),
    failure.reject,
  );
  const consumer = log.consume({ group, maxRecords: READ_RECORDS, maxBytes: READ_BYTES, handler });
  const timer = setInterval(() => {
    for (const [partition, archive] of held) {
      archive.writeIfDue();
      metrics.consumerLag.set({ group, partition: String(partition) }, archive.lag());
    }
  }, TICK_MS);
  const settled = setTimeout(() => status({ state: 'ready' }), SETTLED_MS);
  const ended = consumer.done.then(() => {
    if (stop.aborted) return;
    throw new PinflowError('log_unavailable', `the consumer of ${log.topic} ended: joining again`, { retryable: true });
  });
  const leave = (error: unknown) => {
    logger.warn({ error: messageOf(error) }, 'not all could be archived: the rest stays in the log for the next start');
  };
  try {
    await Promise.race([ended, failure.promise, aborted(stop)]);
    const flushed = held.values().map((archive) => Promise.race([archive.flush(), archive.failed]).catch(leave));
    await Promise.all(flushed);
  } finally {
    clearInterval(timer);
    clearTimeout(settled);
    await handler.revoked([...held.keys()]);
    ended.catch(() => {});
    failure.promise.catch(() => {});
    await consumer.close();
  }
};

/**
 * Moves the log into the archive: each offset into exactly one object, whatever dies and whoever else writes.
 * It keeps its place by the archive's own chain; its group's commits follow.
 *
 * An engine that fails is waited for without end, and nothing is dropped meanwhile. So is a person, where one has to put
 * something right: a missing bucket, wrong credentials, an archive of another log. What is no PinflowError ends `run`.
 */
export const createArchiver = (deps: ArchiverDeps): Worker => {
  const { metrics, logger, status, clock } = deps;
  const stopping = new AbortController();
  const patiently = createPatience(deps);
  let running: Promise<void> | null = null;

  const loop = async () => {
    const stop = stopping.signal;
    let waitMs = RESTART_FIRST_MS;
    while (!stop.aborted) {
      const began = clock.now();
      try {
        await runSession({ ...deps, patiently, stop });
      } catch (error) {
        if (!isPinflowError(error)) throw error;
        if (stop.aborted) return;
        // A session that held for longer than the longest wait had nothing to do with the failure before it.
        if (clock.now() - began > RESTART_MAX_MS) waitMs = RESTART_FIRST_MS;
        metrics.retries.inc({ engine: error.code === 'log_unavailable' ? deps.log.kind : deps.store.kind });
        logger.error({ code: error.code, error: error.message, waitMs }, 'archiving stopped: it begins again');
        status({ state: 'waiting', reason: error.message });
        await sleep(waitMs, stop);
        waitMs = Math.min(error.retryable ? RETRY_MAX_MS : RESTART_MAX_MS, waitMs * 2);
      }
    }
  };

  return {
    run: () => {
      running ??= loop();
      return running;
    },
    drain: async () => {
      stopping.abort();
      // Who called `run` hears of its failure.
      await running?.catch(() => {});
    },
  };
};
