import type { Clock } from '../clock.ts';
import { isRowError } from '../db/postgres/errors.ts';
import type { Database } from '../db/postgres/open.ts';
import type { SpeedPin } from '../db/postgres/speed-batch.ts';
import { commitMicroBatch } from '../db/postgres/speed-view.ts';
import { messageOf } from '../errors.ts';
import { type DeadLetter, letterValue, type SendDeadLetters } from '../log/dlq.ts';
import type { LogRecord } from '../log/log.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { writeTimestamp } from '../pin/pin.ts';
import type { Patiently } from './stream-retry.ts';

export type CommitDeps = {
  readonly database: Database;
  readonly sendDeadLetters: SendDeadLetters;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly topic: string;
};

/** A record with its row of the speed view, or with the reason why it has none. */
type Decoded =
  | { readonly record: LogRecord; readonly pin: SpeedPin }
  | { readonly record: LogRecord; readonly pin: null; readonly reason: string };

/** The records of a partition from offset `from` (null: the first ever) up to, and without, `to`. */
type Part<T> = {
  readonly partition: number;
  readonly records: readonly T[];
  readonly from: number | null;
  readonly to: number;
};

const decode = (record: LogRecord): Decoded => {
  const decoded = decodeRecord(record.value, record.timestamp);
  if (!decoded.ok) return { record, pin: null, reason: decoded.reject.reason };
  const cleaned = cleanPin(decoded.value);
  const position = { partition: record.partition, offset: record.offset };
  const version = writeTimestamp(cleaned.receivedAtMicros, record.offset);
  return { record, pin: { ...cleaned, position, writeTimestamp: version } };
};

const createDeadLetters =
  ({ sendDeadLetters, metrics, clock, logger }: CommitDeps, patiently: Patiently) =>
  async (refused: readonly Extract<Decoded, { pin: null }>[], attempts: number) => {
    if (refused.length === 0) return;
    const at = new Date(clock.now()).toISOString();
    const letters = refused.map(({ record, reason }): DeadLetter => {
      const position = { partition: record.partition, offset: record.offset };
      return { stage: 'stream', reason, position, object: null, attempts, ...letterValue(record.value), at };
    });
    await patiently('log', () => sendDeadLetters(letters));
    metrics.deadLetters.inc({ stage: 'stream' }, letters.length);
    logger.warn({ letters: letters.length, first: letters[0]?.position, reason: letters[0]?.reason }, 'dead letters');
  };

const countRecords = ({ metrics }: CommitDeps, records: readonly Decoded[], pins: readonly SpeedPin[]) => {
  let errors = 0;
  for (const pin of pins) {
    if (pin.isError) errors++;
    for (const field of pin.errorFields) metrics.streamErrorFields.inc({ field });
  }
  metrics.streamBatchPins.observe(records.length);
  metrics.streamedPins.inc({ outcome: 'clean' }, pins.length - errors);
  metrics.streamedPins.inc({ outcome: 'error' }, errors);
  metrics.streamedPins.inc({ outcome: 'reject' }, records.length - pins.length);
};

/**
 * Records → speed view. What cannot be decoded is a dead letter before the transaction that passes over it, so it is
 * never lost; after a crash between the two the same letter is sent again, under the same key.
 *
 * When the database refuses a value, halves are tried until the record is found: it becomes a dead letter, its neighbours
 * land. Each transaction moves the offset over all its records, so a crash in the midst of it leaves nothing half done.
 *
 * @throws PinflowError `fenced` (see `commitMicroBatch`), and what trying again does not help
 */
export const createStreamCommit = (deps: CommitDeps, patiently: Patiently) => {
  const { database, topic, metrics } = deps;
  const sendRefused = createDeadLetters(deps, patiently);

  const transact = async ({ partition, records, from, to }: Part<Decoded>) => {
    const pins = records.flatMap(({ pin }) => pin ?? []);
    const stopTimer = metrics.streamBatchSeconds.startTimer();
    await patiently('postgres', () => commitMicroBatch(database, { topic, partition, from, to, pins }));
    stopTimer();
    countRecords(deps, records, pins);
  };

  const commitPart = async (part: Part<Decoded>, attempts: number): Promise<void> => {
    try {
      return await transact(part);
    } catch (error) {
      if (!isRowError(error) || part.records.every(({ pin }) => pin === null)) throw error;
      metrics.retries.inc({ engine: 'postgres' });
      const [first, ...others] = part.records;
      if (first !== undefined && others.length === 0) {
        const refused = { record: first.record, pin: null, reason: messageOf(error) } as const;
        await sendRefused([refused], attempts);
        return await commitPart({ ...part, records: [refused] }, attempts + 1);
      }
    }
    const half = Math.ceil(part.records.length / 2);
    const [front, back] = [part.records.slice(0, half), part.records.slice(half)];
    const middle = back[0]?.record.offset ?? part.to;
    await commitPart({ ...part, records: front, to: middle }, attempts + 1);
    await commitPart({ ...part, records: back, from: middle }, attempts + 1);
  };

  return async (part: Part<LogRecord>): Promise<void> => {
    const records = part.records.map(decode);
    await sendRefused(
      records.filter((record) => record.pin === null),
      1,
    );
    await commitPart({ ...part, records }, 1);
  };
};
