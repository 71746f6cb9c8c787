import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import type { QualityReport } from '../../pin/quality.ts';

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
    /** Name of the API key it was posted with; null without keys, from another producer, or written before 0006. */
    source: text('source'),
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
    /** Newest received_at of the partition less a minute: windows that end by then are closed. Null: no pin yet. */
    watermark: stamp('watermark'),
    /** Pins that came after a window they count in had closed. */
    latePins: bigint('late_pins', { mode: 'number' }).notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.topic, t.partition] })],
);

/** What was removed from the speed view by policy; `reconcile` does not miss what is older. */
export const speedRemovals = pgTable('speed_removals', {
  /** `pins` or `pin_error_windows`. */
  table: text('table').primaryKey(),
  /** All that was received before is removed, or about to be; only ever rises. */
  before: stamp('before').notNull(),
  rows: bigint('rows', { mode: 'number' }).notNull().default(0),
  removedAt: stamp('removed_at').notNull().defaultNow(),
});

export const batchRuns = pgTable(
  'batch_runs',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    /** `cron`, `retry` (of a cron run that failed), `catch-up` (of missed cron times), `manual`, `backfill`, `rebuild`. */
    reason: text('reason').notNull(),
    /** 1 for the first try of a cron time, 2 for its first retry. */
    attempt: integer('attempt').notNull().default(1),
    /** Cron times the run stands for: after the first, up to and with the second. A backfill: its --from and --to. Null: all there is. */
    windowFrom: stamp('window_from'),
    windowTo: stamp('window_to'),
    /** Which process ran it. */
    holder: text('holder'),
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
    /** What cleaning met: counts of placeholders, rules and reject reasons. A pin that went into two stores counts twice, as in `pins`. */
    quality: jsonb('quality').$type<QualityReport>(),
  },
  (t) => [
    index('batch_runs_started_at').on(t.startedAt),
    index('batch_runs_window_to').on(t.windowTo).where(sql`${t.reason} in ('cron', 'retry', 'catch-up')`),
  ],
);

/** History, pruned with its run: one archive object into one store. What a store has now stands in archive_object_stores. */
export const batchRunSteps = pgTable(
  'batch_run_steps',
  {
    runId: bigint('run_id', { mode: 'number' })
      .notNull()
      .references(() => batchRuns.id, { onDelete: 'cascade' }),
    partition: integer('partition').notNull(),
    firstOffset: bigint('first_offset', { mode: 'number' }).notNull(),
    store: text('store').notNull(),
    key: text('key').notNull(),
    /** `done`, `rejected` (set aside, with the reason), `failed` (left to the next run, with the error). */
    status: text('status').notNull(),
    pins: integer('pins').notNull(),
    errors: integer('errors').notNull(),
    rejects: integer('rejects').notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
    ms: integer('ms').notNull(),
    error: text('error'),
    endedAt: stamp('ended_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.store, t.partition, t.firstOffset] })],
);

/** Whether a schedule is paused; no row: it is not. */
export const batchSchedules = pgTable('batch_schedules', {
  name: text('name').primaryKey(),
  paused: boolean('paused').notNull(),
  changedAt: stamp('changed_at').notNull().defaultNow(),
  changedBy: text('changed_by').notNull(),
});

/** What is late or was; one open row a kind and subject. */
export const batchAlerts = pgTable(
  'batch_alerts',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    /** `run_missed`, `run_long`, `archive_late`. */
    kind: text('kind').notNull(),
    /** The schedule or the store it is about. */
    subject: text('subject').notNull(),
    detail: text('detail').notNull(),
    raisedAt: stamp('raised_at').notNull().defaultNow(),
    resolvedAt: stamp('resolved_at'),
  },
  (t) => [uniqueIndex('batch_alerts_open').on(t.kind, t.subject).where(sql`${t.resolvedAt} is null`)],
);

/** The generation each store is written at; a rebuild raises it. No row: 0, never rebuilt. */
export const batchGenerations = pgTable('batch_generations', {
  store: text('store').primaryKey(),
  generation: integer('generation').notNull(),
  /** Up to here rows of older generations are gone; below `generation`: a rebuild is under way. */
  completed: integer('completed').notNull().default(0),
  startedAt: stamp('started_at').notNull().defaultNow(),
  completedAt: stamp('completed_at'),
});

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
    /** Of the rows it wrote, see batch_generations. */
    generation: integer('generation').notNull().default(0),
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
