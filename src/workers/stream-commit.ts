import type { Clock } from '../clock.ts';
import { isRowError } from '../db/postgres/errors.ts';
import type { Database } from '../db/postgres/open.ts';
import { ANY_FIELD, type SpeedPin } from '../db/postgres/speed-batch.ts';
import { type Committed, createSpeedWriter, type Prepared } from '../db/postgres/speed-commit.ts';
import { messageOf } from '../errors.ts';
import { type DeadLetter, letterValue, type SendDeadLetters } from '../log/dlq.ts';
import type { LogRecord } from '../log/log.ts';
import { sourceOf } from '../log/source.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { writeTimestamp } from '../pin/pin.ts';
import { addParent, type Tracing, traced } from '../tracing/tracing.ts';
import { eachInTurns } from '../turns.ts';
import type { Patiently } from './stream-retry.ts';

export type CommitDeps = {
  readonly database: Database;
  readonly sendDeadLetters: SendDeadLetters;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly topic: string;
  /** Off when absent. */
  readonly tracing?: Tracing;
};

/** A record with its row of the speed view, or with the reason why it has none. */
type Decoded =
  | { readonly record: LogRecord; readonly pin: SpeedPin }
  | { readonly record: LogRecord; readonly pin: null; readonly reason: string };

/** Records of a partition up to, and without, offset `to`, ready to be written. */
export type Work = {
  readonly partition: number;
  readonly records: readonly Decoded[];
  readonly prepared: Prepared;
  readonly to: number;
};

export type StreamCommit = {
  /** Decodes, cleans and encodes: all that can be done while Postgres still works on the batch before. */
  readonly prepare: (
    part: Pick<Work, 'partition' | 'to'> & { readonly records: readonly LogRecord[] },
  ) => Promise<Work>;
  /**
   * @param from the offset the database should hold; null: none yet
   * @throws PinflowError `fenced` (see `SpeedWriter`), and what trying again does not help
   */
  readonly commit: (work: Work, from: number | null) => Promise<Committed>;
};

/** Records decoded in one turn: some milliseconds, so that the rows of the batch before keep flowing to Postgres. */
const RECORDS_PER_TURN = 500;

const decode = (record: LogRecord): Decoded => {
  const decoded = decodeRecord(record.value, record.timestamp);
  if (!decoded.ok) return { record, pin: null, reason: decoded.reject.reason };
  const cleaned = cleanPin(decoded.value);
  const position = { partition: record.partition, offset: record.offset };
  const version = writeTimestamp(cleaned.receivedAtMicros, record.offset);
  return { record, pin: { ...cleaned, position, source: sourceOf(record), writeTimestamp: version } };
};

const createDeadLetters =
  ({ sendDeadLetters, metrics, clock, logger }: CommitDeps, patiently: Patiently) =>
  async (refused: readonly Extract<Decoded, { pin: null }>[], attempts: number) => {
    if (refused.length === 0) return;
    const at = new Date(clock.now()).toISOString();
    const letters = refused.map(({ record, reason }): DeadLetter => {
      const position = { partition: record.partition, offset: record.offset };
      const source = sourceOf(record);
      return { stage: 'stream', reason, position, object: null, attempts, source, ...letterValue(record.value), at };
    });
    await patiently('log', () => sendDeadLetters(letters));
    metrics.deadLetters.inc({ stage: 'stream' }, letters.length);
    logger.warn({ letters: letters.length, first: letters[0]?.position, reason: letters[0]?.reason }, 'dead letters');
  };

/** Pins of a micro-batch whose age is taken down, spread evenly: to observe each costs a fifth of all the stream does with it. */
const VISIBLE_SAMPLES = 20;

const parentsOf = ({ tracing }: CommitDeps, { records }: Work): ReadonlySet<string> => {
  const parents = new Set<string>();
  if (tracing !== undefined) for (const { record } of records) addParent(parents, record.headers);
  return parents;
};

const countRecords = ({ metrics, clock }: CommitDeps, { records, prepared }: Work) => {
  const { pins, missing } = prepared;
  const errors = missing.get(ANY_FIELD) ?? 0;
  const nowSeconds = clock.now() / 1000;
  for (let at = 0; at < pins.length; at += Math.ceil(pins.length / VISIBLE_SAMPLES)) {
    metrics.streamVisibleSeconds.observe(Math.max(0, nowSeconds - (pins[at]?.receivedAtMicros ?? 0) / 1e6));
  }
  for (const [field, pinsWithout] of missing) {
    if (field !== ANY_FIELD) metrics.streamErrorFields.inc({ field }, pinsWithout);
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
 */
export const createStreamCommit = (deps: CommitDeps, patiently: Patiently): StreamCommit => {
  const { database, topic, metrics } = deps;
  const writer = createSpeedWriter(database);
  const sendRefused = createDeadLetters(deps, patiently);

  const workOf = (partition: number, records: readonly Decoded[], to: number): Work => {
    const prepared = writer.prepare(records.flatMap(({ pin }) => pin ?? []));
    return { partition, records, prepared, to };
  };

  const transact = async (work: Work, from: number | null) => {
    const { partition, prepared, to } = work;
    const stopTimer = metrics.streamBatchSeconds.startTimer();
    const committed = await patiently('postgres', () => writer.commit({ topic, partition, from, to }, prepared));
    stopTimer();
    countRecords(deps, work);
    return committed;
  };

  const commitPart = async (work: Work, from: number | null, attempts: number): Promise<Committed> => {
    const { partition, records, prepared, to } = work;
    try {
      return await transact(work, from);
    } catch (error) {
      if (!isRowError(error) || prepared.pins.length === 0) throw error;
      metrics.retries.inc({ engine: 'postgres' });
      const [first, ...others] = records;
      if (first !== undefined && others.length === 0) {
        const refused = { record: first.record, pin: null, reason: messageOf(error) } as const;
        await sendRefused([refused], attempts);
        return await commitPart(workOf(partition, [refused], to), from, attempts + 1);
      }
    }
    const half = Math.ceil(records.length / 2);
    const [front, back] = [records.slice(0, half), records.slice(half)];
    const middle = back[0]?.record.offset ?? to;
    await commitPart(workOf(partition, front, middle), from, attempts + 1);
    return await commitPart(workOf(partition, back, to), middle, attempts + 1);
  };

  return {
    prepare: async ({ partition, records, to }) => {
      const decoded: Decoded[] = [];
      await eachInTurns(records, RECORDS_PER_TURN, (record) => void decoded.push(decode(record)));
      return workOf(partition, decoded, to);
    },
    commit: (work, from) => {
      const attributes = { partition: work.partition, 'messaging.batch.message_count': work.records.length };
      return traced(deps.tracing, 'stream commit', parentsOf(deps, work), attributes, async () => {
        await sendRefused(
          work.records.filter((record) => record.pin === null),
          1,
        );
        return await commitPart(work, from, 1);
      });
    },
  };
};
