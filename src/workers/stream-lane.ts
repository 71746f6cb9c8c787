import type { Clock } from '../clock.ts';
import { isPinflowError } from '../errors.ts';
import type { LogBatch, LogRecord } from '../log/log.ts';
import type { StreamCommit, Work } from './stream-commit.ts';
import type { Pace } from './stream-pace.ts';

/** Where a test may crash the worker. */
export type StreamPoint = 'before stream commit' | 'after stream commit, before group commit' | 'after group commit';

export type LaneDeps = StreamCommit & {
  readonly pace: Pace;
  readonly clock: Clock;
  /** The offset the speed view holds for the partition, or undefined. */
  readonly stored: () => Promise<number | undefined>;
  /** Has the log deliver from there on. */
  readonly seek: (offset: number) => void;
  /** A hint to the log; it does not throw. */
  readonly tellGroup: (nextOffset: number) => Promise<void>;
  readonly committed: (now: {
    readonly nextOffset: number;
    readonly highWatermark: number;
    /** Of the partition, since ever. */
    readonly latePins: number;
  }) => void;
  readonly reached?: ((point: StreamPoint) => void) | undefined;
  /** Told what ends the worker: it may show while no batch is being handed over. */
  readonly failed: (error: unknown) => void;
};

/** A partition that is ours. */
export type Lane = {
  /** Resolves when the next batch may come: its last transaction may still be under way. */
  readonly batch: (batch: LogBatch) => Promise<void>;
  /** Resolves when nothing is under way. Never rejects. */
  readonly settled: () => Promise<void>;
};

const nextOf = (records: readonly LogRecord[]) => (records.at(-1)?.offset ?? 0) + 1;

/** Tells the group off the path of the rows, one call at a time; the newest offset stands for those before it. */
const createTeller = ({ tellGroup, reached, failed }: LaneDeps) => {
  let newest: number | null = null;
  let telling: Promise<void> | null = null;
  const run = async () => {
    try {
      for (let offset = newest; offset !== null; offset = newest) {
        newest = null;
        await tellGroup(offset);
        reached?.('after group commit');
      }
    } finally {
      telling = null;
    }
  };
  return {
    tell: (nextOffset: number) => {
      newest = nextOffset;
      if (telling !== null) return;
      telling = run();
      telling.catch(failed);
    },
    settled: () => telling,
  };
};

/**
 * One partition, in order. While Postgres works on a micro-batch the next is decoded, cleaned and encoded, and then waits for it:
 * two are in memory at most, beside what the log hands over.
 *
 * @param from what the database holds as far as we know; it checks. Null: nothing yet
 */
export const createLane = (deps: LaneDeps, from: number | null): Lane => {
  const { prepare, commit, pace, clock, stored, seek, committed, reached, failed } = deps;
  const teller = createTeller(deps);
  /** What the database will hold once `writing` is done. */
  let next = from;
  /** Rises when the lane goes on elsewhere: what was taken before is not written after. */
  let seeks = 0;
  let writing: Promise<void> = Promise.resolve();

  /** Another worker moved the partition on: go on where it left it. If that worker is still at it, the log will tell one of us. */
  const followStored = async () => {
    const offset = await stored();
    seeks++;
    if (offset === undefined) return;
    next = offset;
    seek(offset);
  };

  const write = async (work: Work, expected: number | null, highWatermark: number) => {
    reached?.('before stream commit');
    const began = clock.now();
    let latePins: number;
    try {
      ({ latePins } = await commit(work, expected));
    } catch (error) {
      if (!isPinflowError(error, 'fenced')) throw error;
      return followStored();
    }
    pace.observe(work.records.length, clock.now() - began);
    committed({ nextOffset: work.to, highWatermark, latePins });
    reached?.('after stream commit, before group commit');
    teller.tell(work.to);
  };

  const batch = async ({ partition, records, highWatermark }: LogBatch) => {
    const under = seeks;
    const expected = next;
    // Offsets may be missing in between, where the log dropped or never had them; none is read twice.
    const fresh = expected === null ? records : records.filter((record) => record.offset >= expected);
    if (fresh.length === 0) {
      await writing;
      if (seeks === under) await followStored();
      return;
    }
    for (let at = 0; at < fresh.length; ) {
      const slice = fresh.slice(at, at + pace.limit(highWatermark - (fresh[at]?.offset ?? 0)));
      at += slice.length;
      const work = await prepare({ partition, records: slice, to: nextOf(slice) });
      await writing;
      // What was taken before the lane went elsewhere comes again, from where the database stands.
      if (seeks !== under) return;
      writing = write(work, next, highWatermark);
      writing.catch(failed);
      next = work.to;
    }
  };

  return {
    batch,
    settled: async () => {
      await writing.catch(() => {});
      await teller.settled()?.catch(() => {});
    },
  };
};
