import { and, desc, eq, inArray, lt, notInArray, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { type BatchRun, clockNow, type Db } from './ledger.ts';
import { batchRuns, batchSchedules } from './schema.ts';

/** Reasons of runs that stand for a cron time. */
const SCHEDULED = ['cron', 'retry', 'catch-up'] as const;
/** Ended runs whose durations make the median: enough to be steady, few enough to follow a change. */
const MEDIAN_RUNS = 50;
/** Runs that are kept whatever their age: what the schedule looks at must not be pruned away. */
const ALWAYS_KEPT = 100;
/** Runs removed at a time, with their steps: a ledger that was never pruned is not emptied in one long statement. */
const PRUNE_BATCH = 1000;

export type SchedulePause = { readonly paused: boolean; readonly changedAt: string; readonly changedBy: string };

/** Whether the schedule is paused, since when and by whom; null when nobody ever paused it. */
export const schedulePause = async ({ db }: Db, name: string): Promise<SchedulePause | null> => {
  const [found] = await asked(db.select().from(batchSchedules).where(eq(batchSchedules.name, name)));
  return found ?? null;
};

/** Pauses or resumes a schedule in every process at once: each asks before it starts a run of its own accord. */
export const setPaused = async ({ db }: Db, name: string, paused: boolean, changedBy: string): Promise<void> => {
  const change = { paused, changedBy, changedAt: clockNow };
  await asked(
    db
      .insert(batchSchedules)
      .values({ name, ...change })
      .onConflictDoUpdate({ target: batchSchedules.name, set: change }),
  );
};

/** The newest run that stands for a cron time, or null. */
export const lastScheduledRun = async ({ db }: Db): Promise<BatchRun | null> => {
  // Literally, as the partial index has it. Without a time: started by a caller of its own.
  const scheduled = sql`${batchRuns.reason} in ('cron', 'retry', 'catch-up') and ${batchRuns.windowTo} is not null`;
  const newest = db.select().from(batchRuns).where(scheduled).orderBy(desc(batchRuns.windowTo), desc(batchRuns.id));
  const [run] = await asked(newest.limit(1));
  return run ?? null;
};

/** The newest run of any reason, or null. */
export const lastRun = async ({ db }: Db): Promise<BatchRun | null> => {
  const [run] = await asked(db.select().from(batchRuns).orderBy(desc(batchRuns.id)).limit(1));
  return run ?? null;
};

export type RunningRun = Pick<BatchRun, 'id' | 'reason'> & { readonly seconds: number };

/** Scheduled and manual runs that are under way, by the database's clock. Backfills and rebuilds take as long as they take. */
export const runningRuns = async ({ db }: Db): Promise<readonly RunningRun[]> =>
  asked(
    db
      .select({
        id: batchRuns.id,
        reason: batchRuns.reason,
        seconds: sql<number>`extract(epoch from clock_timestamp() - ${batchRuns.startedAt})::float8`,
      })
      .from(batchRuns)
      .where(and(eq(batchRuns.status, 'running'), inArray(batchRuns.reason, [...SCHEDULED, 'manual']))),
  );

/** Median duration of the newest runs that cleaned something, seconds; null while there are fewer than `atLeast`. */
export const medianRunSeconds = async ({ db }: Db, atLeast: number): Promise<number | null> => {
  const seconds = sql<number>`extract(epoch from ${batchRuns.endedAt} - ${batchRuns.startedAt})::float8`;
  const ended = await asked(
    db
      .select({ seconds })
      .from(batchRuns)
      .where(
        and(
          eq(batchRuns.status, 'done'),
          notInArray(batchRuns.reason, ['backfill', 'rebuild']),
          sql`${batchRuns.objects} > 0`,
        ),
      )
      .orderBy(desc(batchRuns.id))
      .limit(MEDIAN_RUNS),
  );
  if (ended.length < atLeast) return null;
  const sorted = ended.map((run) => run.seconds).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
};

/** Removes ended runs older than so many days, with their steps, oldest first. @returns how many */
export const pruneRuns = async ({ db }: Db, keptDays: number): Promise<number> => {
  const newest = sql`(select max(id) from ${batchRuns})`;
  const old = and(
    lt(batchRuns.startedAt, sql`clock_timestamp() - ${keptDays} * interval '1 day'`),
    sql`${batchRuns.id} <= ${newest} - ${ALWAYS_KEPT}::bigint`,
    sql`${batchRuns.status} <> 'running'`,
  );
  const some = db.select({ id: batchRuns.id }).from(batchRuns).where(old).orderBy(batchRuns.id).limit(PRUNE_BATCH);
  const removed = await asked(db.delete(batchRuns).where(inArray(batchRuns.id, some)).returning({ id: batchRuns.id }));
  return removed.length;
};
