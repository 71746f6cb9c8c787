import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { GroupStore } from './sqlite-groups.ts';
import type { RecordStore } from './sqlite-records.ts';

export type RetentionOptions = {
  readonly topic: string;
  readonly records: RecordStore;
  readonly groups: Pick<GroupStore, 'committed'>;
  /** Nothing that one of these groups has not committed is deleted, even if the group has never been here. */
  readonly knownGroups: readonly string[];
  readonly retentionHours: number;
  readonly retentionBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
};

const HOUR_MS = 3_600_000;
/** Between looks when there was nothing to delete, milliseconds. */
const LOOK_MS = 10_000;
/** Between chunks while there is more, milliseconds: appends go first, and 500 batches a chunk still outrun them. */
const CHUNK_PAUSE_MS = 10;

/**
 * Deletes one chunk of batches that are too old or too many and that every known group has committed to their end.
 * @returns how many batches were deleted; 0 when there is nothing more to do
 */
export const retentionStep = (options: Omit<RetentionOptions, 'logger' | 'topic'>): number => {
  const { records, groups, knownGroups, retentionHours, retentionBytes, clock } = options;
  const commits = knownGroups.map((group) => groups.committed(group));
  const candidates = records.states().flatMap(({ partition, start, end }) => {
    const floor = Math.min(end, ...commits.map((committed) => committed.get(partition) ?? 0));
    const first = floor > start ? records.firstBatch(partition) : null;
    return first === null || first.end > floor ? [] : [{ partition, floor, timestamp: first.timestamp }];
  });
  const oldest = candidates.sort((a, b) => a.timestamp - b.timestamp)[0];
  if (oldest === undefined) return 0;
  const { partition, floor, timestamp } = oldest;
  const cutoff = clock.now() - retentionHours * HOUR_MS;
  if (timestamp < cutoff) return records.expire(partition, floor, cutoff);
  return records.usedBytes() > retentionBytes ? records.expire(partition, floor, Number.MAX_SAFE_INTEGER) : 0;
};

/** Runs {@link retentionStep} in the background, from the first `start` until `stop`. */
export const createRetention = (options: RetentionOptions) => {
  const { topic, logger } = options;
  let timer: Timer | null = null;
  let stopped = false;

  const look = () => {
    let deleted = 0;
    try {
      deleted = retentionStep(options);
    } catch (error) {
      logger.warn({ topic, error: messageOf(error) }, 'retention could not delete old records: trying again');
    }
    plan(deleted > 0 ? CHUNK_PAUSE_MS : LOOK_MS);
  };
  const plan = (ms: number) => {
    if (stopped) return;
    timer = setTimeout(look, ms);
    timer.unref();
  };
  return {
    start: () => {
      if (timer === null) plan(LOOK_MS);
    },
    stop: () => {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
    },
  };
};
