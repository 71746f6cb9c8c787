import { eq, sql } from 'drizzle-orm';
import { parseMicros } from '../../pin/timestamp.ts';
import { asked } from './errors.ts';
import type { Database } from './open.ts';
import { speedRemovals } from './schema.ts';
import { rfc3339, timestamptz } from './times.ts';

/** A table of the speed view, and the column that says how old a row is. */
const TABLES = {
  pins: { table: sql.raw('pins'), age: sql.raw('received_at') },
  pin_error_windows: { table: sql.raw('pin_error_windows'), age: sql.raw('slide_start') },
} as const;

export type RemovableTable = keyof typeof TABLES;

/** Rows of one transaction: some milliseconds, so the stream's own writes do not wait. */
const REMOVED_AT_ONCE = 2000;

type Db = Pick<Database, 'db'>;

/**
 * Removes rows older than `beforeMicros`, in small transactions, oldest first. The cutoff is written down in the first of them,
 * so that `reconcile` never misses what is gone; it only rises. Several callers at once are safe: none waits for another's rows.
 *
 * @param signal ends it between two transactions
 * @returns rows removed
 * @throws PinflowError `postgres_unavailable`
 */
export const removeOlder = async (
  { db }: Db,
  name: RemovableTable,
  beforeMicros: number,
  signal?: AbortSignal,
): Promise<number> => {
  const { table, age } = TABLES[name];
  const before = timestamptz(beforeMicros);
  const removeSome = () =>
    db.transaction(async (tx) => {
      const removed = await tx.execute(sql`
        with old as (
          select ctid from ${table} where ${age} < ${before} order by ${age} limit ${REMOVED_AT_ONCE} for update skip locked)
        delete from ${table} using old where ${table}.ctid = old.ctid returning 1`);
      if (removed.length === 0) return 0;
      await tx.execute(sql`
        insert into speed_removals ("table", before, rows) values (${name}, ${before}, ${removed.length})
        on conflict ("table") do update set before = greatest(speed_removals.before, excluded.before),
          rows = speed_removals.rows + excluded.rows, removed_at = now()`);
      return removed.length;
    });
  let total = 0;
  for (let removed = -1; removed !== 0 && !signal?.aborted; total += removed) removed = await asked(removeSome());
  return total;
};

/** Rows received before this were removed from the table by policy; null: none ever was. Microseconds. @throws PinflowError `postgres_unavailable` */
export const removedBefore = async ({ db }: Db, name: RemovableTable): Promise<number | null> => {
  const before = rfc3339(speedRemovals.before);
  const [row] = await asked(db.select({ before }).from(speedRemovals).where(eq(speedRemovals.table, name)));
  return parseMicros(row?.before);
};
