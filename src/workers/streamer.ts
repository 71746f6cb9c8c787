import { streamOffsets } from '../db/postgres/speed-view.ts';
import { messageOf, PinflowError } from '../errors.ts';
import type { Consumer, ConsumerHandler, PinLog } from '../log/log.ts';
import type { Worker, WorkerStatus } from './protocol.ts';
import { type CommitDeps, createStreamCommit } from './stream-commit.ts';
import { createLane, type Lane, type StreamPoint } from './stream-lane.ts';
import { createPace } from './stream-pace.ts';
import { type KeptDays, keepRemoving } from './stream-removal.ts';
import { createPatiently, type Patiently } from './stream-retry.ts';

export type { StreamPoint } from './stream-lane.ts';

/** Of a transaction while the stream keeps up: what a pin waits for at most behind the batch before. Milliseconds. */
const LATENCY_MS = 100;
/** Of a transaction in catch-up: longer ones are hardly faster, and hold locks and memory. Milliseconds. */
const CATCH_UP_MS = 1000;

export type StreamerDeps = CommitDeps & {
  readonly log: PinLog;
  readonly status: (status: WorkerStatus) => void;
  readonly group: string;
  /** Of a micro-batch: pins, and bytes of their records. */
  readonly limits: { readonly maxPins: number; readonly maxBytes: number };
  /** Old rows are removed while the worker runs. (Default: all are kept.) */
  readonly kept?: KeptDays;
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

type Handler = ConsumerHandler & {
  /** Resolves when nothing is under way. */
  readonly settled: () => Promise<void>;
};

/** @param failed told what ends the worker */
const createHandler = (
  deps: StreamerDeps,
  patiently: Patiently,
  consumer: () => Consumer,
  failed: (error: unknown) => void,
): Handler => {
  const { database, topic, group, metrics, logger, status, reached, limits } = deps;
  const streamCommit = createStreamCommit(deps, patiently);
  const pace = createPace({ latencyMs: LATENCY_MS, catchUpMs: CATCH_UP_MS, ...limits });
  const lanes = new Map<number, Lane>();

  const showLag = (partition: number, lag: number) =>
    metrics.consumerLag.set({ group, partition: String(partition) }, Math.max(0, lag));

  const openLane = (partition: number, from: number | null): Lane => {
    const lane: Lane = createLane(
      {
        ...streamCommit,
        pace,
        clock: deps.clock,
        reached,
        failed,
        stored: async () => (await patiently('postgres', () => streamOffsets(database, topic))).get(partition),
        seek: (offset) => {
          logger.info({ partition, offset }, 'the speed view stands elsewhere: going on from there');
          consumer().seek(partition, offset);
        },
        tellGroup: (offset) => tellGroup(deps, consumer(), partition, offset),
        committed: ({ nextOffset, highWatermark, latePins }) => {
          if (lanes.get(partition) !== lane) return;
          showLag(partition, highWatermark - nextOffset);
          metrics.streamLatePins.set({ partition: String(partition) }, latePins);
        },
      },
      from,
    );
    lanes.set(partition, lane);
    return lane;
  };

  return {
    assigned: async (partitions) => {
      const { stored, starts, states } = await patiently('postgres', () => startOffsets(deps, partitions));
      for (const partition of partitions) openLane(partition, stored.get(partition) ?? null);
      for (const { partition, end } of states) {
        if (partitions.includes(partition)) showLag(partition, end - (starts.get(partition) ?? end));
      }
      status({ state: 'ready' });
      return starts;
    },
    batch: (batch) => (lanes.get(batch.partition) ?? openLane(batch.partition, null)).batch(batch),
    revoked: async (partitions) => {
      const lost = partitions.map((partition) => lanes.get(partition)?.settled());
      for (const partition of partitions) {
        lanes.delete(partition);
        metrics.consumerLag.remove({ group, partition: String(partition) });
        metrics.streamLatePins.remove({ partition: String(partition) });
      }
      await Promise.all(lost);
    },
    settled: async () => void (await Promise.all([...lanes.values()].map((lane) => lane.settled()))),
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
  let handler: Handler | null = null;

  const close = async () => {
    // First, so that the group still hears of what is committed now; then what was handed over while it closed.
    await handler?.settled();
    await consumer?.close().catch(() => undefined);
    await handler?.settled();
  };

  const run = async () => {
    if (draining.signal.aborted) return;
    const failure = Promise.withResolvers<never>();
    handler = createHandler(deps, patiently, () => opened, failure.reject);
    const { maxPins: maxRecords, maxBytes } = deps.limits;
    const opened = deps.log.consume({ group: deps.group, maxRecords, maxBytes, handler });
    consumer = opened;
    const ended = new AbortController();
    const { kept } = deps;
    const removing = kept === undefined ? null : keepRemoving({ ...deps, kept }, ended.signal);
    try {
      await Promise.race([opened.done, failure.promise]);
    } catch (error) {
      await close();
      // A call that is still being retried when the drain comes ends with its error: its batch will be read again.
      if (!draining.signal.aborted) throw error;
    } finally {
      ended.abort();
      await removing;
    }
  };

  let running: Promise<void> | null = null;
  return {
    run: () => {
      running ??= run();
      return running;
    },
    drain: async () => {
      draining.abort();
      await close();
      await running?.catch(() => undefined);
    },
  };
};
