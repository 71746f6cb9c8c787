import { streamOffsets } from '../db/postgres/speed-view.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Consumer, ConsumerHandler, LogBatch, PinLog } from '../log/log.ts';
import type { Worker, WorkerStatus } from './protocol.ts';
import { type CommitDeps, createStreamCommit } from './stream-commit.ts';
import { createPatiently, type Patiently } from './stream-retry.ts';

/** Where a test may crash the worker. */
export type StreamPoint = 'before stream commit' | 'after stream commit, before group commit' | 'after group commit';

export type StreamerDeps = CommitDeps & {
  readonly log: PinLog;
  readonly status: (status: WorkerStatus) => void;
  readonly group: string;
  /** Of a micro-batch: pins, and bytes of their records. */
  readonly limits: { readonly maxPins: number; readonly maxBytes: number };
  readonly reached?: (point: StreamPoint) => void;
};

/**
 * Where each partition goes on. The offsets of the speed view are the truth, as they are written with its rows; the
 * group's own commits serve lag and retention only. A speed view without an offset is a new one, and starts with the
 * earliest record the log still has.
 */
const startOffsets = async ({ log, database, topic }: StreamerDeps, partitions: readonly number[]) => {
  const [stored, states] = await Promise.all([streamOffsets(database, topic), log.partitions()]);
  for (const { partition, end } of states) {
    const next = stored.get(partition);
    if (next === undefined || next <= end || !partitions.includes(partition)) continue;
    throw new PinflowError(
      'log_unavailable',
      `the speed view has read partition ${partition} of ${topic} up to offset ${next}, but the log ends at ${end}: it is not the log this Postgres was filled from. Use that log, another PIN_TOPIC, or a new database.`,
      { retryable: true },
    );
  }
  const earliest = new Map(states.map(({ partition, start }) => [partition, start]));
  return {
    stored,
    states,
    starts: new Map(
      partitions.map((partition) => [partition, stored.get(partition) ?? earliest.get(partition) ?? null]),
    ),
  };
};

/** A hint to the log. Where it is not taken, the rows are in and the offset with them: the partition's owner will find it there. */
const tellGroup = async ({ logger }: StreamerDeps, consumer: Consumer, partition: number, offset: number) => {
  try {
    await consumer.commit(partition, offset);
  } catch (error) {
    logger.debug({ partition, offset, error: messageOf(error) }, 'the group did not take the commit');
  }
};

const createHandler = (deps: StreamerDeps, patiently: Patiently, consumer: () => Consumer): ConsumerHandler => {
  const { database, topic, group, metrics, logger, status, reached } = deps;
  const commit = createStreamCommit(deps, patiently);
  /** What the database holds for the partitions that are ours, as far as we know; it checks. */
  const next = new Map<number, number>();

  const showLag = (partition: number, lag: number) =>
    metrics.consumerLag.set({ group, partition: String(partition) }, Math.max(0, lag));

  /** Another worker moved the partition on: go on where it left it. If that worker is still at it, the log will tell one of us. */
  const followStored = async (partition: number) => {
    const stored = await patiently('postgres', () => streamOffsets(database, topic));
    const offset = stored.get(partition);
    if (offset === undefined) return;
    next.set(partition, offset);
    logger.info({ partition, offset }, 'the speed view stands elsewhere: going on from there');
    consumer().seek(partition, offset);
  };

  const batch = async ({ partition, records, highWatermark }: LogBatch) => {
    const from = next.get(partition) ?? null;
    // Offsets may be missing in between, where the log dropped or never had them; none is read twice.
    const fresh = from === null ? records : records.filter((record) => record.offset >= from);
    const last = fresh.at(-1);
    if (last === undefined) return followStored(partition);
    const to = last.offset + 1;
    reached?.('before stream commit');
    try {
      await commit({ partition, records: fresh, from, to });
    } catch (error) {
      if (isPinflowError(error, 'fenced')) return followStored(partition);
      throw error;
    }
    next.set(partition, to);
    showLag(partition, highWatermark - to);
    reached?.('after stream commit, before group commit');
    await tellGroup(deps, consumer(), partition, to);
    reached?.('after group commit');
  };

  return {
    assigned: async (partitions) => {
      const { stored, starts, states } = await patiently('postgres', () => startOffsets(deps, partitions));
      for (const partition of partitions) {
        const offset = stored.get(partition);
        if (offset === undefined) next.delete(partition);
        else next.set(partition, offset);
      }
      for (const { partition, end } of states) {
        if (partitions.includes(partition)) showLag(partition, end - (starts.get(partition) ?? end));
      }
      status({ state: 'ready' });
      return starts;
    },
    batch,
    revoked: async (partitions) => {
      for (const partition of partitions) {
        next.delete(partition);
        metrics.consumerLag.remove({ group, partition: String(partition) });
      }
    },
  };
};

/**
 * The speed layer: log → Postgres, in micro-batches of whatever is there, without waiting for more. Rows, error windows
 * and offset commit together, so a restart neither repeats nor skips, wherever it was cut. Away engines are waited for;
 * what no retry helps is thrown, for the supervisor to show and to start anew.
 */
export const createStreamer = (deps: StreamerDeps): Worker => {
  const draining = new AbortController();
  const patiently = createPatiently(deps, draining.signal);
  let consumer: Consumer | null = null;

  const run = async () => {
    if (draining.signal.aborted) return;
    const opened = deps.log.consume({
      group: deps.group,
      maxRecords: deps.limits.maxPins,
      maxBytes: deps.limits.maxBytes,
      handler: createHandler(deps, patiently, () => opened),
    });
    consumer = opened;
    // A call that is still being retried when the drain comes ends with its error: its batch will be read again.
    await opened.done.catch((error: unknown) => (draining.signal.aborted ? undefined : Promise.reject(error)));
  };

  let running: Promise<void> | null = null;
  return {
    run: () => {
      running ??= run();
      return running;
    },
    drain: async () => {
      draining.abort();
      await consumer?.close().catch(() => undefined);
      await running?.catch(() => undefined);
    },
  };
};
