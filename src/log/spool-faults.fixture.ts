import { PinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import type { Position } from '../pin/pin.ts';
import type { LogRecord, NewRecord, PinLog } from './log.ts';
import { openSqliteLog } from './sqlite.ts';

/**
 * What the broker does: takes records, refuses them at once, takes them and never answers, takes them and says it failed,
 * never does anything.
 */
export type Mood = 'well' | 'down' | 'mute' | 'lying' | 'hung';

/** A real log that behaves as a broker with moods; `open` is the log itself, to see what has arrived. */
export type MoodyLog = Pick<PinLog, 'append' | 'durability' | 'topic'> & {
  readonly setMood: (mood: Mood) => void;
  /** Calls of `append`, in any mood. */
  readonly calls: () => number;
  /** Records larger than this are refused for good, bytes. */
  readonly setLargest: (bytes: number) => void;
  /** What each answer of a broker that is well waits for, milliseconds. */
  readonly setSlowness: (ms: number) => void;
  readonly records: () => Promise<readonly LogRecord[]>;
  /** Values in the log, in their order. */
  readonly values: () => Promise<readonly string[]>;
  readonly close: () => Promise<void>;
};

const never = new Promise<never>(() => {});
const gone = () => new PinflowError('log_unavailable', 'the broker is down', { retryable: true });

const actIn = async (mood: Mood, append: () => Promise<readonly Position[]>) => {
  if (mood === 'down') throw gone();
  if (mood === 'hung') return never;
  const positions = await append();
  if (mood === 'mute') return never;
  if (mood === 'lying') throw gone();
  return positions;
};

export const openMoodyLog = async (dir: string): Promise<MoodyLog> => {
  const log = await openSqliteLog({
    dir,
    topic: 'pins',
    partitions: 1,
    retentionHours: 24,
    retentionBytes: 2 ** 40,
    maxPendingBytes: 2 ** 30,
    groups: [],
    logger: createLogger('silent', 'test'),
  });
  let mood: Mood = 'well';
  let largest = Number.POSITIVE_INFINITY;
  let calls = 0;
  let slowness = 0;
  const records = () => log.read({ partition: 0, offset: 0 }, Number.MAX_SAFE_INTEGER);
  return {
    durability: 'broker',
    topic: log.topic,
    append: async (added: readonly NewRecord[]) => {
      calls += 1;
      if (mood === 'well' && added.some(({ value }) => value.length > largest))
        throw new PinflowError('too_large', `more than ${largest} bytes`);
      if (slowness > 0) await Bun.sleep(slowness);
      return actIn(mood, () => log.append(added));
    },
    setMood: (next) => {
      mood = next;
    },
    calls: () => calls,
    setLargest: (bytes) => {
      largest = bytes;
    },
    setSlowness: (ms) => {
      slowness = ms;
    },
    records,
    values: async () => (await records()).map(({ value }) => new TextDecoder().decode(value)),
    close: log.close,
  };
};
