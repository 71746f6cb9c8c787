import { and, desc, eq, exists, gt, type InferSelectModel, lt, lte, or, sql } from 'drizzle-orm';
import type { Position } from '../../pin/pin.ts';
import type { QualityReport } from '../../pin/quality.ts';
import { asked } from './errors.ts';
import type { Database } from './open.ts';
import { archiveObjectStores, archiveObjects, batchRuns, leases } from './schema.ts';

/**
 * The run ledger of the batch layer: what the archive holds, which store has what of it, which runs there were, and who
 * runs now. Every function is one statement, so a crash between two of them leaves nothing half done. All of them throw
 * PinflowError `postgres_unavailable` or `query` (see {@link postgresError}). Time is the database's clock throughout:
 * the clocks of two machines need not agree.
 */
export type Db = Pick<Database, 'db'>;

export const clockNow = sql`clock_timestamp()`;

export type LeaseRequest = {
  readonly name: string;
  /** Unique to one attempt: two that share it would both believe they hold the lease. */
  readonly holder: string;
  /** Without renewal the lease is free again after this many milliseconds. */
  readonly ttlMs: number;
};

const expiry = (ttlMs: number) => sql`clock_timestamp() + ${ttlMs} * interval '1 millisecond'`;

/** Takes the lease if it is free, expired or this holder's already (an answer may have been lost on the way). */
export const acquireLease = async ({ db }: Db, { name, holder, ttlMs }: LeaseRequest): Promise<boolean> => {
  const expiresAt = expiry(ttlMs);
  const taken = await asked(
    db
      .insert(leases)
      .values({ name, holder, expiresAt })
      .onConflictDoUpdate({
        target: leases.name,
        set: { holder, expiresAt },
        setWhere: or(lte(leases.expiresAt, clockNow), eq(leases.holder, holder)),
      })
      .returning({ name: leases.name }),
  );
  return taken.length === 1;
};

/** False: another holder has it now, and this one must stop. */
export const renewLease = async ({ db }: Db, { name, holder, ttlMs }: LeaseRequest): Promise<boolean> => {
  const renewed = await asked(
    db
      .update(leases)
      .set({ expiresAt: expiry(ttlMs) })
      .where(and(eq(leases.name, name), eq(leases.holder, holder)))
      .returning({ name: leases.name }),
  );
  return renewed.length === 1;
};

/** Lets go of the lease if this holder has it. */
export const releaseLease = async ({ db }: Db, { name, holder }: Omit<LeaseRequest, 'ttlMs'>): Promise<void> => {
  await asked(db.delete(leases).where(and(eq(leases.name, name), eq(leases.holder, holder))));
};

/** Who holds the lease now, or null. */
export const leaseHolder = async ({ db }: Db, name: string): Promise<string | null> => {
  const [lease] = await asked(
    db
      .select({ holder: leases.holder })
      .from(leases)
      .where(and(eq(leases.name, name), gt(leases.expiresAt, clockNow))),
  );
  return lease?.holder ?? null;
};

export type BatchRun = InferSelectModel<typeof batchRuns>;

/** Why a run ran, see `batch_runs`. */
export type RunReason = 'cron' | 'retry' | 'catch-up' | 'manual' | 'backfill' | 'rebuild';

/** What a run did. A pin or object that went into two stores counts twice. */
export type RunCounts = {
  readonly objects: number;
  readonly pins: number;
  /** Pins with a field that should be there and is not. */
  readonly errors: number;
  /** Lines, rows and whole objects that were set aside. */
  readonly rejects: number;
  /** Compressed. */
  readonly bytes: number;
};

export type RunStart = {
  /** (Default: 1) */
  readonly attempt?: number;
  /** Cron times, or days of a backfill, the run stands for. (Default: none) */
  readonly windowFrom?: Date | null;
  readonly windowTo?: Date | null;
  readonly holder?: string;
};

/** @returns the id of the new run */
export const startRun = async (
  { db }: Db,
  reason: RunReason,
  { attempt = 1, windowFrom = null, windowTo = null, holder }: RunStart = {},
): Promise<number> => {
  const window = { windowFrom: windowFrom?.toISOString() ?? null, windowTo: windowTo?.toISOString() ?? null };
  const values = { reason, attempt, ...window, holder, status: 'running', startedAt: clockNow };
  const [run] = await asked(db.insert(batchRuns).values(values).returning({ id: batchRuns.id }));
  return (run as { readonly id: number }).id;
};

export type RunEnd = RunCounts & {
  readonly status: 'done' | 'failed' | 'abandoned';
  readonly error: string | null;
  readonly quality?: QualityReport;
};

/** Ends a run that is still running; one that was abandoned meanwhile stays so. */
export const finishRun = async ({ db }: Db, id: number, end: RunEnd): Promise<void> => {
  await asked(
    db
      .update(batchRuns)
      .set({ ...end, endedAt: clockNow })
      .where(and(eq(batchRuns.id, id), eq(batchRuns.status, 'running'))),
  );
};

/**
 * Marks every run that is still `running` as abandoned. Only the holder of the lease may ask: no run but its own can be alive.
 * @returns their ids
 */
export const abandonRuns = async ({ db }: Db): Promise<readonly number[]> => {
  const abandoned = await asked(
    db
      .update(batchRuns)
      .set({
        status: 'abandoned',
        endedAt: clockNow,
        error: 'its process died or lost the lease; a later run took it up',
      })
      .where(eq(batchRuns.status, 'running'))
      .returning({ id: batchRuns.id }),
  );
  return abandoned.map((run) => run.id);
};

/** The newest runs, newest first. */
export const recentRuns = ({ db }: Db, limit: number): Promise<readonly BatchRun[]> =>
  asked(db.select().from(batchRuns).orderBy(desc(batchRuns.id)).limit(limit));

export type KnownObject = Omit<InferSelectModel<typeof archiveObjects>, 'seenAt'>;

export const objectColumns = {
  partition: archiveObjects.partition,
  firstOffset: archiveObjects.firstOffset,
  lastOffset: archiveObjects.lastOffset,
  key: archiveObjects.key,
  pins: archiveObjects.pins,
  bytes: archiveObjects.bytes,
};

/** First offset of the last object known of a partition, or null: where discovery goes on. */
export const frontier = async ({ db }: Db, partition: number): Promise<number | null> => {
  const [last] = await asked(
    db
      .select({ firstOffset: archiveObjects.firstOffset })
      .from(archiveObjects)
      .where(eq(archiveObjects.partition, partition))
      .orderBy(desc(archiveObjects.firstOffset))
      .limit(1),
  );
  return last?.firstOffset ?? null;
};

/** Adds what is not known yet. At most some thousands at a time (a statement has 65,535 parameters at most). */
export const addObjects = async ({ db }: Db, objects: readonly KnownObject[]): Promise<void> => {
  if (objects.length === 0) return;
  const rows = objects.map(({ partition, firstOffset, lastOffset, key, pins, bytes }) => ({
    partition,
    firstOffset,
    lastOffset,
    key,
    pins,
    bytes,
  }));
  await asked(db.insert(archiveObjects).values(rows).onConflictDoNothing());
};

export const ofObject = and(
  eq(archiveObjectStores.partition, archiveObjects.partition),
  eq(archiveObjectStores.firstOffset, archiveObjects.firstOffset),
);

/** Gives a rejected object another chance in every store that rejected it: the next run reads it anew. */
export const forgetRejected = async ({ db }: Db, key: string): Promise<void> => {
  const object = db
    .select({ one: sql`1` })
    .from(archiveObjects)
    .where(and(ofObject, eq(archiveObjects.key, key)));
  await asked(
    db
      .update(archiveObjectStores)
      .set({ status: 'retry' })
      .where(and(eq(archiveObjectStores.status, 'rejected'), exists(object))),
  );
};

export type ObjectProgress = Omit<InferSelectModel<typeof archiveObjectStores>, 'doneAt' | 'status' | 'generation'> & {
  readonly status: 'done' | 'rejected';
  /** Of the rows it wrote. (Default: 0) */
  readonly generation?: number;
};

/**
 * Records that a store has an object, or that the object was rejected. The first record of a generation stays, unless it is
 * to be retried.
 */
export const markObject = async ({ db }: Db, progress: ObjectProgress): Promise<void> => {
  const { partition, firstOffset, store, generation } = archiveObjectStores;
  const row = { generation: 0, ...progress, doneAt: clockNow };
  await asked(
    db
      .insert(archiveObjectStores)
      .values(row)
      .onConflictDoUpdate({
        target: [partition, firstOffset, store],
        set: row,
        setWhere: or(eq(archiveObjectStores.status, 'retry'), lt(generation, row.generation)),
      }),
  );
};

type ObjectId = Pick<KnownObject, 'partition' | 'firstOffset'>;

/** What each store has of an object. */
export const progressOf = (
  { db }: Db,
  { partition, firstOffset }: ObjectId,
): Promise<readonly InferSelectModel<typeof archiveObjectStores>[]> =>
  asked(
    db
      .select()
      .from(archiveObjectStores)
      .where(and(eq(archiveObjectStores.partition, partition), eq(archiveObjectStores.firstOffset, firstOffset)))
      .orderBy(archiveObjectStores.store),
  );

/** The archive object whose range of offsets holds a position of the log, or null when none is known (yet). */
export const objectOf = async ({ db }: Db, { partition, offset }: Position): Promise<KnownObject | null> => {
  const [object] = await asked(
    db
      .select(objectColumns)
      .from(archiveObjects)
      .where(and(eq(archiveObjects.partition, partition), lte(archiveObjects.firstOffset, offset)))
      .orderBy(desc(archiveObjects.firstOffset))
      .limit(1),
  );
  return object !== undefined && offset <= object.lastOffset ? object : null;
};
