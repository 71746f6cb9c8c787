import { asc, eq, type InferSelectModel, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { type BatchRun, clockNow, type Db } from './ledger.ts';
import { batchRunSteps, batchRuns } from './schema.ts';

/** One object into one store in one run. `bytes` are compressed, `ms` from reading to being marked. */
export type RunStep = InferSelectModel<typeof batchRunSteps>;

/** Writes down a step; the last word on an object and store in a run stays. */
export const recordStep = async ({ db }: Db, step: Omit<RunStep, 'endedAt'>): Promise<void> => {
  const { runId, store, partition, firstOffset } = batchRunSteps;
  const row = { ...step, endedAt: clockNow };
  await asked(
    db
      .insert(batchRunSteps)
      .values(row)
      .onConflictDoUpdate({ target: [runId, store, partition, firstOffset], set: row }),
  );
};

export const findRun = async ({ db }: Db, id: number): Promise<BatchRun | null> => {
  const [run] = await asked(db.select().from(batchRuns).where(eq(batchRuns.id, id)));
  return run ?? null;
};

/** The steps of a run in the order they ended, at most `limit`. */
export const stepsOfRun = ({ db }: Db, id: number, limit: number): Promise<readonly RunStep[]> =>
  asked(
    db
      .select()
      .from(batchRunSteps)
      .where(eq(batchRunSteps.runId, id))
      .orderBy(asc(batchRunSteps.endedAt), asc(batchRunSteps.store))
      .limit(limit),
  );

export type StoreSummary = {
  readonly store: string;
  readonly objects: number;
  readonly pins: number;
  readonly failed: number;
  readonly ms: number;
};

/** What a run did for each store. */
export const storesOfRun = ({ db }: Db, id: number): Promise<readonly StoreSummary[]> =>
  asked(
    db
      .select({
        store: batchRunSteps.store,
        objects: sql<number>`count(*) filter (where ${batchRunSteps.status} <> 'failed')::int`,
        pins: sql<number>`sum(${batchRunSteps.pins})::float8`,
        failed: sql<number>`count(*) filter (where ${batchRunSteps.status} = 'failed')::int`,
        ms: sql<number>`sum(${batchRunSteps.ms})::float8`,
      })
      .from(batchRunSteps)
      .where(eq(batchRunSteps.runId, id))
      .groupBy(batchRunSteps.store)
      .orderBy(batchRunSteps.store),
  );
