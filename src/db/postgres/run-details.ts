import { asc, eq } from 'drizzle-orm';
import { asked } from './errors.ts';
import { type BatchRun, ofObject } from './ledger.ts';
import { findRun } from './ledger-steps.ts';
import type { Database } from './open.ts';
import { archiveObjects, archiveObjectStores as progress } from './schema.ts';

/** One archive object in one batch view, as a run left it. */
export type RunObject = {
  readonly key: string;
  readonly store: string;
  readonly status: string;
  readonly pins: number;
  readonly errors: number;
  readonly rejects: number;
  /** Why it was rejected. */
  readonly reason: string | null;
};

/** One run and the objects it put into batch views, in the order of the chains; null when there is no such run. @throws PinflowError `postgres_unavailable` */
export const runDetails = async (
  database: Pick<Database, 'db'>,
  id: number,
  limit: number,
): Promise<{ readonly run: BatchRun; readonly objects: readonly RunObject[] } | null> => {
  const { store, status, pins, errors, rejects, reason } = progress;
  const run = await findRun(database, id);
  if (run === null) return null;
  const objects = await asked(
    database.db
      .select({ key: archiveObjects.key, store, status, pins, errors, rejects, reason })
      .from(progress)
      .innerJoin(archiveObjects, ofObject)
      .where(eq(progress.runId, id))
      .orderBy(asc(progress.partition), asc(progress.firstOffset), asc(progress.store))
      .limit(limit),
  );
  return { run, objects };
};
