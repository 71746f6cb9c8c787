import { asc, desc, eq, gt, sql as statement } from 'drizzle-orm';
import { PinflowError } from '../../errors.ts';
import type { Position } from '../../pin/pin.ts';
import { parseMicros } from '../../pin/timestamp.ts';
import { arraysAsText, plainArray, textArray } from './array-text.ts';
import { postgresError } from './errors.ts';
import type { Database } from './open.ts';
import { streamOffsets as offsets, pins } from './schema.ts';
import { countWindows, foldPins, type SpeedPin, type WindowCount } from './speed-batch.ts';

/** Records of one partition that become one transaction, offsets [from, to). */
export type MicroBatch = {
  readonly topic: string;
  readonly partition: number;
  /** The offset the database must still hold; null when it must hold none yet. */
  readonly from: number | null;
  readonly to: number;
  /** What of them could be decoded, in the order of their offsets. */
  readonly pins: readonly SpeedPin[];
};

/** A statement that takes longer is ended by the server: it waits for a lock whose holder is stuck. Milliseconds. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** A transaction whose client is gone without a word is rolled back after this, and its locks are free. Milliseconds. */
const IDLE_TRANSACTION_MS = 15_000;
/** Above both: the server cannot be asked any more. The connection is left to the system's own keepalive. Milliseconds. */
const COMMIT_TIMEOUT_MS = 60_000;

const UPSERTED = [
  'received_at',
  'category',
  'index_no',
  'title',
  'description',
  'follower_count',
  'tag_list',
  'is_image_or_video',
  'image_src',
  'downloaded',
  'save_location',
  'poster_name',
  'is_error',
  'error_fields',
  'write_ts',
  'log_partition',
  'log_offset',
] as const;

const ARRAYS = `$1::uuid[], $2::int8[], $3::text[], $4::int4[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::text[],
  $10::text[], $11::int4[], $12::text[], $13::text[], $14::text[], $15::int8[], $16::int4[], $17::int8[]`;

/** Times travel as microseconds: 2^53 of them fit a double, so the product with an interval is exact. */
const UPSERT_PINS = `
  insert into pins (unique_id, ${UPSERTED.join(', ')})
  select unique_id, timestamptz 'epoch' + received * interval '1 microsecond', category, index_no, title, description,
    follower_count, tags::text[], is_image_or_video, image_src, downloaded, save_location, poster_name, missing <> '{}',
    missing::text[], write_ts, log_partition, log_offset
  from unnest(${ARRAYS}) as batch (unique_id, received, category, index_no, title, description, follower_count, tags,
    is_image_or_video, image_src, downloaded, save_location, poster_name, missing, write_ts, log_partition, log_offset)
  on conflict (unique_id) do update set ${UPSERTED.map((column) => `${column} = excluded.${column}`).join(', ')}
  where (excluded.write_ts, excluded.log_offset) > (pins.write_ts, pins.log_offset)`;

const COUNT_WINDOWS = `
  insert into pin_error_windows (slide_start, category, field, pins)
  select timestamptz 'epoch' + slide * interval '1 microsecond', category, field, pins
  from unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) as batch (slide, category, field, pins)
  on conflict (slide_start, category, field) do update set pins = pin_error_windows.pins + excluded.pins`;

const LIMITS = `
  select set_config('statement_timeout', '${STATEMENT_TIMEOUT_MS}', true),
    set_config('idle_in_transaction_session_timeout', '${IDLE_TRANSACTION_MS}', true)`;

const FIRST_OFFSET = `
  insert into stream_offsets (topic, partition, next_offset) values ($1, $2, $3) on conflict do nothing returning 1`;
const NEXT_OFFSET = `
  update stream_offsets set next_offset = $3, updated_at = now()
  where topic = $1 and partition = $2 and next_offset = $4 returning 1`;

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

const withDeadline = async <T>(work: Promise<T>): Promise<T> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `Postgres did not answer within ${COMMIT_TIMEOUT_MS} ms. Check the network to it; this is tried again.`;
    const fail = () => reject(new PinflowError('postgres_unavailable', message, { retryable: true }));
    timer = setTimeout(fail, COMMIT_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
};

/**
 * Rows, error windows and the next offset in one transaction, on condition that the database still holds `from`: of two
 * workers that believe to own the partition one fails, and a batch whose commit was lost on the way is not counted twice.
 *
 * @throws PinflowError `fenced` when the database holds another offset (nothing was written); `postgres_unavailable`;
 *   `query`, where `isRowError` tells whether a row is to blame
 */
export const commitMicroBatch = async ({ sql }: Pick<Database, 'sql'>, batch: MicroBatch): Promise<void> => {
  const { topic, partition, from, to } = batch;
  const rows = foldPins(batch.pins);
  const counts = countWindows(batch.pins);
  const work = sql.begin(async (tx) => {
    const run = (text: string, parameters: (string | number)[]) => tx.unsafe(text, parameters, { prepare: true });
    // Sent at once and answered in order. Windows come last: many partitions count into the same rows.
    const [, moved] = await Promise.all([
      run(LIMITS, []),
      from === null ? run(FIRST_OFFSET, [topic, partition, to]) : run(NEXT_OFFSET, [topic, partition, to, from]),
      ...(rows.length === 0 ? [] : [run(UPSERT_PINS, pinColumns(rows)), run(COUNT_WINDOWS, windowColumns(counts))]),
    ]);
    if (moved.length === 1) return;
    const message = `partition ${partition} of ${topic} no longer stands at ${from ?? 'its start'} in the speed view: another worker has moved it on. Read the stored offset again.`;
    throw new PinflowError('fenced', message);
  });
  try {
    await withDeadline(work);
  } catch (error) {
    throw postgresError(error);
  }
};

const asked = <T>(query: PromiseLike<T>): Promise<T> =>
  Promise.resolve(query).catch((error: unknown) => Promise.reject(postgresError(error)));

type Db = Pick<Database, 'db'>;

/** Next offset to read by partition; a partition that was never read is absent. @throws PinflowError `postgres_unavailable` */
export const streamOffsets = async ({ db }: Db, topic: string): Promise<ReadonlyMap<number, number>> => {
  const rows = await asked(db.select().from(offsets).where(eq(offsets.topic, topic)));
  return new Map(rows.map((row) => [row.partition, row.nextOffset]));
};

/** `timestamptz` as text in a form that does not hang on the session's settings. */
const rfc3339 = (column: typeof pins.receivedAt) =>
  statement<string>`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Drizzle's reader of arrays loses backslashes. */
const tagsAsJson = statement<readonly string[] | null>`to_json(${pins.tagList})`;

/** The row of one id, or null. @throws PinflowError `postgres_unavailable` */
export const getSpeedPin = async ({ db }: Db, uniqueId: string): Promise<SpeedPin | null> => {
  const [found] = await asked(
    db
      .select({ pin: pins, receivedAt: rfc3339(pins.receivedAt), tagList: tagsAsJson })
      .from(pins)
      .where(eq(pins.uniqueId, uniqueId)),
  );
  if (found === undefined) return null;
  const { receivedAt, tagList } = found;
  const { receivedAt: _, writeTs, logPartition, logOffset, ...pin } = found.pin;
  const position: Position = { partition: logPartition, offset: logOffset };
  return { ...pin, tagList, receivedAtMicros: parseMicros(receivedAt) ?? 0, position, writeTimestamp: writeTs };
};

export type SpeedVersion = { readonly uniqueId: string; readonly writeTimestamp: number };

/** Ids read at once: some 100 KB. */
const VERSIONS_PAGE = 2000;

/**
 * Every id once with its version, in the order of ids. Pages by key, so memory is bounded and no transaction is held open;
 * a row that comes or changes meanwhile may show in its new state. @throws PinflowError `postgres_unavailable`
 */
export const speedVersions = async function* ({ db }: Db): AsyncIterable<readonly SpeedVersion[]> {
  const versions = db.select({ uniqueId: pins.uniqueId, writeTimestamp: pins.writeTs }).from(pins).$dynamic();
  let after: string | undefined;
  for (;;) {
    const above = after === undefined ? undefined : gt(pins.uniqueId, after);
    const page: SpeedVersion[] = await asked(versions.where(above).orderBy(asc(pins.uniqueId)).limit(VERSIONS_PAGE));
    if (page.length > 0) yield page;
    if (page.length < VERSIONS_PAGE) return;
    after = page.at(-1)?.uniqueId;
  }
};

export type ErrorPin = {
  readonly uniqueId: string;
  /** RFC 3339, six digits of a second. */
  readonly receivedAt: string;
  readonly category: string | null;
  readonly title: string | null;
  readonly errorFields: readonly string[];
};

/** Erroneous pins, newest first. @throws PinflowError `postgres_unavailable` */
export const recentErrors = ({ db }: Db, { limit }: { readonly limit: number }): Promise<readonly ErrorPin[]> =>
  asked(
    db
      .select({
        uniqueId: pins.uniqueId,
        receivedAt: rfc3339(pins.receivedAt),
        category: pins.category,
        title: pins.title,
        errorFields: pins.errorFields,
      })
      .from(pins)
      // As the partial index has it: `is_error = true` would not match it.
      .where(statement`${pins.isError}`)
      .orderBy(desc(pins.receivedAt))
      .limit(limit),
  );
