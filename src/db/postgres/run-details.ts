import { and, asc, eq } from 'drizzle-orm';
import { postgresError } from './errors.ts';
import type { BatchRun } from './ledger.ts';
import type { Database } from './open.ts';
import { archiveObjects, batchRuns, archiveObjectStores as progress } from './schema.ts';

export type RunObject = {
  readonly key: string;
  readonly store: string;
  readonly status: string;
  readonly pins: number;
  readonly errors: number;
  readonly rejects: number;
  readonly reason: string | null;
};

/** One run and the objects it put into batch views, in the order of the chains; null when there is no such run. @throws PinflowError `postgres_unavailable` */
export const runDetails = async (
  { db }: Pick<Database, 'db'>,
  id: number,
  limit: number,
): Promise<{ readonly run: BatchRun; readonly objects: readonly RunObject[] } | null> => {
  const sameObject = and(
    eq(progress.partition, archiveObjects.partition),
    eq(progress.firstOffset, archiveObjects.firstOffset),
  );
  const { store, status, pins, errors, rejects, reason } = progress;
  try {
    const [run] = await db.select().from(batchRuns).where(eq(batchRuns.id, id));
    if (run === undefined) return null;
    const objects = await db
      .select({ key: archiveObjects.key, store, status, pins, errors, rejects, reason })
      .from(progress)
      .innerJoin(archiveObjects, sameObject)
      .where(eq(progress.runId, id))
      .orderBy(asc(progress.partition), asc(progress.firstOffset), asc(progress.store))
      .limit(limit);
    return { run, objects };
  } catch (error) {
    throw postgresError(error);
  }
};
