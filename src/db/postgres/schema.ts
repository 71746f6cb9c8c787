import { sql } from 'drizzle-orm';
import { bigint, boolean, index, integer, pgTable, primaryKey, text, timestamp, uuid } from 'drizzle-orm/pg-core';

/** Tables of the speed view and of the run ledger. Change this file, then `bunx drizzle-kit generate`: migrations are forward-only. */
const stamp = (name: string) => timestamp(name, { withTimezone: true, precision: 6, mode: 'string' });

/** The speed view: one row a pin, the version with the highest (write_ts, log_offset). */
export const pins = pgTable(
  'pins',
  {
    uniqueId: uuid('unique_id').primaryKey(),
    receivedAt: stamp('received_at').notNull(),
    category: text('category'),
    indexNo: integer('index_no').notNull(),
    title: text('title'),
    description: text('description'),
    followerCount: bigint('follower_count', { mode: 'bigint' }),
    tagList: text('tag_list').array(),
    isImageOrVideo: text('is_image_or_video'),
    imageSrc: text('image_src'),
    downloaded: integer('downloaded').notNull(),
    saveLocation: text('save_location'),
    posterName: text('poster_name'),
    isError: boolean('is_error').notNull(),
    errorFields: text('error_fields').array().notNull(),
    /** Microseconds; orders versions of one id by the same rule as in the batch view. */
    writeTs: bigint('write_ts', { mode: 'number' }).notNull(),
    logPartition: integer('log_partition').notNull(),
    logOffset: bigint('log_offset', { mode: 'number' }).notNull(),
  },
  (t) => [index('pins_received_at').on(t.receivedAt), index('pins_errors').on(t.receivedAt).where(sql`${t.isError}`)],
);

/**
 * Counts by slide (one minute of received_at), category and error field. `field` '' counts all pins of the slide, `*` the
 * erroneous ones; a sliding window is the sum of its slides (view pin_error_windows_sliding).
 */
export const pinErrorWindows = pgTable(
  'pin_error_windows',
  {
    slideStart: stamp('slide_start').notNull(),
    category: text('category').notNull(),
    field: text('field').notNull(),
    pins: bigint('pins', { mode: 'number' }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.slideStart, t.category, t.field] })],
);

/** Next offset the speed layer will read; updated in the transaction that writes the rows, on condition of its old value. */
export const streamOffsets = pgTable(
  'stream_offsets',
  {
    topic: text('topic').notNull(),
    partition: integer('partition').notNull(),
    nextOffset: bigint('next_offset', { mode: 'number' }).notNull(),
    updatedAt: stamp('updated_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.topic, t.partition] })],
);

export const batchRuns = pgTable(
  'batch_runs',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    /** `cron`, `manual`. */
    reason: text('reason').notNull(),
    /** `running`, `done`, `failed`, `abandoned` (its holder died; a later run took it up). */
    status: text('status').notNull(),
    startedAt: stamp('started_at').notNull().defaultNow(),
    endedAt: stamp('ended_at'),
    objects: integer('objects').notNull().default(0),
    pins: bigint('pins', { mode: 'number' }).notNull().default(0),
    errors: bigint('errors', { mode: 'number' }).notNull().default(0),
    rejects: bigint('rejects', { mode: 'number' }).notNull().default(0),
    bytes: bigint('bytes', { mode: 'number' }).notNull().default(0),
    error: text('error'),
  },
  (t) => [index('batch_runs_started_at').on(t.startedAt)],
);

/** Every archive object the batch layer has seen, in the chain of its partition. */
export const archiveObjects = pgTable(
  'archive_objects',
  {
    partition: integer('partition').notNull(),
    firstOffset: bigint('first_offset', { mode: 'number' }).notNull(),
    lastOffset: bigint('last_offset', { mode: 'number' }).notNull(),
    key: text('key').notNull().unique(),
    pins: integer('pins').notNull(),
    /** Compressed size. */
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
    seenAt: stamp('seen_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.partition, t.firstOffset] })],
);

/** Object x store progress: a row here means this store has this object (or that it was rejected, with the reason). */
export const archiveObjectStores = pgTable(
  'archive_object_stores',
  {
    partition: integer('partition').notNull(),
    firstOffset: bigint('first_offset', { mode: 'number' }).notNull(),
    store: text('store').notNull(),
    runId: bigint('run_id', { mode: 'number' }).notNull(),
    /** `done` or `rejected`; `retry`: someone asked for a rejected object again, and the next run takes it up. */
    status: text('status').notNull(),
    pins: integer('pins').notNull(),
    errors: integer('errors').notNull(),
    rejects: integer('rejects').notNull(),
    reason: text('reason'),
    doneAt: stamp('done_at').notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.partition, t.firstOffset, t.store] }),
    index('archive_object_stores_retry').on(t.store, t.partition, t.firstOffset).where(sql`${t.status} = 'retry'`),
  ],
);

/** One holder at a time across processes; a dead holder loses it when it expires. Works through any pooler, unlike a session lock. */
export const leases = pgTable('leases', {
  name: text('name').primaryKey(),
  holder: text('holder').notNull(),
  expiresAt: stamp('expires_at').notNull(),
});
