import { and, eq, or, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { clockNow, type Db } from './ledger.ts';
import { archiveObjectStores, batchGenerations } from './schema.ts';

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
