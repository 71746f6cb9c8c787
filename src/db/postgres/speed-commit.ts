import type { TransactionSql } from 'postgres';
import { PinflowError } from '../../errors.ts';
import { withDeadline } from '../../retry.ts';
import { arraysAsText, plainArray, textArray } from './array-text.ts';
import { copyIn } from './copy-in.ts';
import { COPY_COLUMNS, copyRows } from './copy-rows.ts';
import { isUnsupported, postgresError } from './errors.ts';
import type { Database } from './open.ts';
import { countWindows, foldPins, missingOf, type SpeedPin, type WindowCount } from './speed-batch.ts';

/** Offsets [from, to) of a partition, whose rows become one transaction. */
export type Move = {
  readonly topic: string;
  readonly partition: number;
  /** The offset the database must still hold; null when it must hold none yet. */
  readonly from: number | null;
  readonly to: number;
};

/** A statement that takes longer is ended by the server: it waits for a lock whose holder is stuck. Milliseconds. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** A transaction whose client is gone without a word is rolled back after this, and its locks are free. Milliseconds. */
const IDLE_TRANSACTION_MS = 15_000;
/** Above both: the server cannot be asked any more. The connection is left to the system's own keepalive. Milliseconds. */
const COMMIT_TIMEOUT_MS = 60_000;
/** From this many rows on COPY is faster than arrays, for all that its staging table costs (ADR 6). */
const COPY_FROM_ROWS = 100;

const [KEY, ...UPSERTED] = COPY_COLUMNS;

const ON_CONFLICT = `
  on conflict (${KEY}) do update set ${UPSERTED.map((column) => `${column} = excluded.${column}`).join(', ')}
  where (excluded.write_ts, excluded.log_offset) > (pins.write_ts, pins.log_offset)`;

const ARRAYS = `$1::uuid[], $2::int8[], $3::text[], $4::int4[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::text[],
  $10::text[], $11::int4[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int8[], $17::int4[], $18::int8[]`;

/** Times travel as microseconds: 2^53 of them fit a double, so the product with an interval is exact. */
const UPSERT_ARRAYS = `
  insert into pins (${KEY}, ${UPSERTED.join(', ')})
  select unique_id, timestamptz 'epoch' + received * interval '1 microsecond', category, index_no, title, description,
    follower_count, tags::text[], is_image_or_video, image_src, downloaded, save_location, poster_name, source,
    missing <> '{}', missing::text[], write_ts, log_partition, log_offset
  from unnest(${ARRAYS}) as batch (unique_id, received, category, index_no, title, description, follower_count, tags,
    is_image_or_video, image_src, downloaded, save_location, poster_name, source, missing, write_ts, log_partition, log_offset)
  ${ON_CONFLICT}`;

/** Of this session alone, without WAL, emptied by every commit. Stays from batch to batch; a pooler may hand us a session without it. */
const STAGE = `create temporary table if not exists pinflow_batch (like pins) on commit delete rows`;
const COPY_STAGE = `copy pinflow_batch (${COPY_COLUMNS.join(', ')}) from stdin (format binary)`;
const UPSERT_STAGE = `
  insert into pins (${KEY}, ${UPSERTED.join(', ')}) select ${KEY}, ${UPSERTED.join(', ')} from pinflow_batch ${ON_CONFLICT}`;

const COUNT_WINDOWS = `
  insert into pin_error_windows (slide_start, category, field, pins)
  select timestamptz 'epoch' + slide * interval '1 microsecond', category, field, pins
  from unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) as batch (slide, category, field, pins)
  on conflict (slide_start, category, field) do update set pins = pin_error_windows.pins + excluded.pins`;

/** The notice that the staging table is there already would be sent with every batch. */
const LIMITS = `
  select set_config('statement_timeout', '${STATEMENT_TIMEOUT_MS}', true),
    set_config('idle_in_transaction_session_timeout', '${IDLE_TRANSACTION_MS}', true),
    set_config('client_min_messages', 'warning', true)`;

/**
 * The watermark of a partition: the newest `received_at` it has brought, less a minute, and never ahead of the clock, as a stamp of another
 * producer may be. A pin is late when the first of its two windows had closed by the watermark before its batch. Late
 * pins count in their windows as all do, since windows are kept in the database and not in memory.
 */
const watermark = (newest: string) =>
  `case when ${newest}::int8 is not null
    then least(timestamptz 'epoch' + ${newest}::int8 * interval '1 microsecond', clock_timestamp()) - interval '1 minute' end`;
const FIRST_OFFSET = `
  insert into stream_offsets (topic, partition, next_offset, watermark)
  values ($1, $2, $3, ${watermark('$4')}) on conflict do nothing returning late_pins`;
const NEXT_OFFSET = `
  update stream_offsets set next_offset = $3, updated_at = now(),
    watermark = greatest(watermark, ${watermark('$5')}),
    late_pins = late_pins + (
      select coalesce(sum(pins), 0) from unnest($6::int8[], $7::int8[]) as batch (slide, pins)
      where timestamptz 'epoch' + slide * interval '1 microsecond' + interval '1 minute' <= watermark)
  where topic = $1 and partition = $2 and next_offset = $4 returning late_pins`;

const pinColumns = (rows: readonly SpeedPin[]): string[] => [
  plainArray(rows.map((row) => row.uniqueId)),
  plainArray(rows.map((row) => row.receivedAtMicros)),
  textArray(rows.map((row) => row.category)),
  plainArray(rows.map((row) => row.indexNo)),
  textArray(rows.map((row) => row.title)),
  textArray(rows.map((row) => row.description)),
  plainArray(rows.map((row) => row.followerCount)),
  arraysAsText(rows.map((row) => row.tagList)),
  textArray(rows.map((row) => row.isImageOrVideo)),
  textArray(rows.map((row) => row.imageSrc)),
  plainArray(rows.map((row) => row.downloaded)),
  textArray(rows.map((row) => row.saveLocation)),
  textArray(rows.map((row) => row.posterName)),
  textArray(rows.map((row) => row.source)),
  arraysAsText(rows.map((row) => row.errorFields)),
  plainArray(rows.map((row) => row.writeTimestamp)),
  plainArray(rows.map((row) => row.position.partition)),
  plainArray(rows.map((row) => row.position.offset)),
];

const windowColumns = (counts: readonly WindowCount[]): string[] => [
  plainArray(counts.map((count) => count.slideMicros)),
  textArray(counts.map((count) => count.category)),
  textArray(counts.map((count) => count.field)),
  plainArray(counts.map((count) => count.pins)),
];

/** For the watermark: the newest stamp, and the pins of each slide. */
type Times = { readonly newestMicros: number | null; readonly slides: string; readonly pins: string };

const timesOf = (pins: readonly SpeedPin[], counts: readonly WindowCount[]): Times => {
  const slides = new Map<number, number>();
  for (const count of counts) {
    if (count.field === '') slides.set(count.slideMicros, (slides.get(count.slideMicros) ?? 0) + count.pins);
  }
  let newestMicros: number | null = null;
  for (const pin of pins) newestMicros = Math.max(newestMicros ?? 0, pin.receivedAtMicros);
  return { newestMicros, slides: plainArray([...slides.keys()]), pins: plainArray([...slides.values()]) };
};

/** What is sent of a micro-batch, encoded while Postgres still works on the one before. */
export type Prepared = {
  readonly pins: readonly SpeedPin[];
  /** See `missingOf`. */
  readonly missing: ReadonlyMap<string, number>;
  readonly windows: string[];
  readonly times: Times;
  readonly rows:
    | { readonly by: 'copy'; readonly bytes: Buffer }
    | { readonly by: 'arrays'; readonly columns: string[] }
    | null;
};

export type Committed = {
  /** Late pins of the partition so far. */
  readonly latePins: number;
};

const run = (tx: TransactionSql, text: string, parameters: (string | number | null)[] = []) =>
  tx.unsafe(text, parameters, { prepare: true });

const moveOffset = async (
  tx: TransactionSql,
  { topic, partition, from, to }: Move,
  times: Times,
): Promise<Committed> => {
  const { newestMicros, slides, pins } = times;
  const [moved] = await (from === null
    ? run(tx, FIRST_OFFSET, [topic, partition, to, newestMicros])
    : run(tx, NEXT_OFFSET, [topic, partition, to, from, newestMicros, slides, pins]));
  if (moved !== undefined) return { latePins: Number(moved.late_pins) };
  const message = `partition ${partition} of ${topic} no longer stands at ${from ?? 'its start'} in the speed view: another worker has moved it on. Read the stored offset again.`;
  throw new PinflowError('fenced', message);
};

/** Statements are sent at once and answered in order. Windows come last: many partitions count into the same rows. */
const write = async (tx: TransactionSql, move: Move, { rows, windows, times }: Prepared): Promise<Committed> => {
  const [limits, moved] = [run(tx, LIMITS), moveOffset(tx, move, times)];
  const count = () => run(tx, COUNT_WINDOWS, windows);
  if (rows === null) {
    await Promise.all([limits, moved]);
  } else if (rows.by === 'arrays') {
    await Promise.all([limits, moved, run(tx, UPSERT_ARRAYS, rows.columns), count()]);
  } else {
    await Promise.all([limits, moved, run(tx, STAGE)]);
    await copyIn(tx, COPY_STAGE, rows.bytes);
    await Promise.all([run(tx, UPSERT_STAGE), count()]);
  }
  return moved;
};

const late = () => {
  const message = `Postgres did not answer within ${COMMIT_TIMEOUT_MS} ms. Check the network to it; this is tried again.`;
  return new PinflowError('postgres_unavailable', message, { retryable: true });
};

export type SpeedWriter = {
  /** Folds versions of one id, counts windows, encodes rows. Computes only. @param pins in the order of their offsets */
  readonly prepare: (pins: readonly SpeedPin[]) => Prepared;
  /**
   * Rows, error windows and the next offset in one transaction, on condition that the database still holds `from`: of two
   * workers that believe to own the partition one fails, and a batch whose commit was lost on the way is not counted twice.
   *
   * @throws PinflowError `fenced` when the database holds another offset (nothing was written); `postgres_unavailable`;
   *   `query`, where `isRowError` tells whether a row is to blame
   */
  readonly commit: (move: Move, prepared: Prepared) => Promise<Committed>;
};

/**
 * Rows go by COPY where the server has it, else (and few rows anywhere) as arrays: the outcome is the same.
 * @param copyFromRows (Default: 100.)
 */
export const createSpeedWriter = (
  { sql }: Pick<Database, 'sql'>,
  { copyFromRows = COPY_FROM_ROWS }: { readonly copyFromRows?: number } = {},
): SpeedWriter => {
  let canCopy = true;

  const encode = (rows: readonly SpeedPin[]): Prepared['rows'] => {
    if (rows.length === 0) return null;
    return canCopy && rows.length >= copyFromRows
      ? { by: 'copy', bytes: copyRows(rows) }
      : { by: 'arrays', columns: pinColumns(rows) };
  };
  const prepare: SpeedWriter['prepare'] = (pins) => {
    const counts = countWindows(pins);
    return {
      pins,
      missing: missingOf(counts),
      windows: windowColumns(counts),
      times: timesOf(pins, counts),
      rows: encode(foldPins(pins)),
    };
  };
  const commit: SpeedWriter['commit'] = async (move, prepared) => {
    try {
      return await withDeadline(
        sql.begin((tx) => write(tx, move, prepared)),
        COMMIT_TIMEOUT_MS,
        late,
      );
    } catch (error) {
      if (prepared.rows?.by !== 'copy' || !isUnsupported(error)) throw postgresError(error);
      canCopy = false;
      return commit(move, prepare(prepared.pins));
    }
  };
  return { prepare, commit };
};
