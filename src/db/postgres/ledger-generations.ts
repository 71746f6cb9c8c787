import { and, asc, eq, gt, lt, or, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { clockNow, type Db, type KnownObject, objectColumns, ofObject } from './ledger.ts';
import { archiveObjectStores, archiveObjects, batchGenerations } from './schema.ts';

/** At which generation a store is written, and up to which it is free of older rows: below it, a rebuild is under way. */
export type Generation = { readonly generation: number; readonly completed: number };

const NEVER: Generation = { generation: 0, completed: 0 };

export const generationOf = async ({ db }: Db, store: string): Promise<Generation> => {
  const { generation, completed } = batchGenerations;
  const found = await asked(
    db.select({ generation, completed }).from(batchGenerations).where(eq(batchGenerations.store, store)),
  );
  return found[0] ?? NEVER;
};

/** Raises the generation of a store that is not being rebuilt; one under way goes on. Only the holder of the lease may ask. */
export const beginRebuild = async ({ db }: Db, store: string): Promise<void> => {
  const { generation, completed } = batchGenerations;
  await asked(
    db
      .insert(batchGenerations)
      .values({ store, generation: 1, completed: 0, startedAt: clockNow })
      .onConflictDoUpdate({
        target: batchGenerations.store,
        set: { generation: sql`${generation} + 1`, startedAt: clockNow, completedAt: null },
        setWhere: eq(generation, completed),
      }),
  );
};

/** Raises the generation a store is written at, without making a rebuild of it: what a backfill writes then wins over what stands there. */
export const raiseGeneration = async ({ db }: Db, store: string): Promise<void> => {
  const { generation, completed } = batchGenerations;
  const raised = sql`${generation} + 1`;
  await asked(
    db
      .insert(batchGenerations)
      .values({ store, generation: 1, completed: 1, startedAt: clockNow, completedAt: clockNow })
      .onConflictDoUpdate({
        target: batchGenerations.store,
        set: { generation: raised, completed: raised },
        setWhere: eq(generation, completed),
      }),
  );
};

/** Ends a rebuild: the store has nothing of older generations any more, or what it has is kept on purpose. */
export const completeRebuild = async ({ db }: Db, store: string, generation: number): Promise<void> => {
  await asked(
    db
      .update(batchGenerations)
      .set({ completed: generation, completedAt: clockNow })
      .where(and(eq(batchGenerations.store, store), eq(batchGenerations.generation, generation))),
  );
};

/** Where a page of objects begins: after this one, in the order of partition and first offset. */
export type Cursor = Pick<KnownObject, 'partition' | 'firstOffset'>;

const afterCursor = ({ partition, firstOffset }: Cursor) =>
  or(
    gt(archiveObjects.partition, partition),
    and(eq(archiveObjects.partition, partition), gt(archiveObjects.firstOffset, firstOffset)),
  );

/** Objects a store has at an older generation, in the order of the chains. */
export const staleObjects = (
  { db }: Db,
  query: { readonly store: string; readonly generation: number; readonly after: Cursor; readonly limit: number },
): Promise<readonly KnownObject[]> =>
  asked(
    db
      .select(objectColumns)
      .from(archiveObjectStores)
      .innerJoin(archiveObjects, ofObject)
      .where(
        and(
          eq(archiveObjectStores.store, query.store),
          lt(archiveObjectStores.generation, query.generation),
          afterCursor(query.after),
        ),
      )
      .orderBy(asc(archiveObjects.partition), asc(archiveObjects.firstOffset))
      .limit(query.limit),
  );

/** Objects whose first pin was received within these hours, both included; as the key has them: `2026-11-23/hour=18`. */
export type HourRange = { readonly fromHour: string; readonly toHour: string };

const HOUR_AT = 'pins/dt='.length + 1;
const HOUR_LENGTH = '2026-11-23/hour=18'.length;

/** Byte order: the locale's own may pass over punctuation. */
const inHours = ({ fromHour, toHour }: HourRange) =>
  sql`substr(${archiveObjects.key}, ${HOUR_AT}::int, ${HOUR_LENGTH}::int) collate "C" between ${fromHour} and ${toHour}`;

export const objectsOfHours = (
  { db }: Db,
  range: HourRange,
  after: Cursor,
  limit: number,
): Promise<readonly KnownObject[]> =>
  asked(
    db
      .select(objectColumns)
      .from(archiveObjects)
      .where(and(inHours(range), afterCursor(after)))
      .orderBy(asc(archiveObjects.partition), asc(archiveObjects.firstOffset))
      .limit(limit),
  );

export type ObjectTotals = { readonly objects: number; readonly pins: number; readonly bytes: number };

/** How much the ledger knows of. @param range (Default: all) */
export const objectTotals = async ({ db }: Db, range: HourRange | null): Promise<ObjectTotals> => {
  const [totals] = await asked(
    db
      .select({
        objects: sql<number>`count(*)::float8`,
        pins: sql<number>`coalesce(sum(${archiveObjects.pins}), 0)::float8`,
        bytes: sql<number>`coalesce(sum(${archiveObjects.bytes}), 0)::float8`,
      })
      .from(archiveObjects)
      .where(range === null ? undefined : inHours(range)),
  );
  return totals ?? { objects: 0, pins: 0, bytes: 0 };
};

/** Objects that a store could not be given: damaged ones, and those that are asked for again. */
export const incompleteObjects = async ({ db }: Db, store: string): Promise<number> => {
  const lacking = or(eq(archiveObjectStores.status, 'rejected'), eq(archiveObjectStores.status, 'retry'));
  const [found] = await asked(
    db
      .select({ objects: sql<number>`count(*)::int` })
      .from(archiveObjectStores)
      .where(and(eq(archiveObjectStores.store, store), lacking)),
  );
  return found?.objects ?? 0;
};
