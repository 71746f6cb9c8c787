import { eq, sql } from 'drizzle-orm';
import { formatMicros, parseMicros } from '../../pin/timestamp.ts';
import { postgresError } from './errors.ts';
import type { Database } from './open.ts';
import { speedRemovals } from './schema.ts';

/** A table of the speed view, and the column that says how old a row is. */
const TABLES = {
  pins: { table: sql.raw('pins'), age: sql.raw('received_at') },
  pin_error_windows: { table: sql.raw('pin_error_windows'), age: sql.raw('slide_start') },
} as const;

export type RemovableTable = keyof typeof TABLES;

/** Rows of one transaction: some milliseconds, so the stream's own writes do not wait. */
const REMOVED_AT_ONCE = 2000;

type Db = Pick<Database, 'db'>;

const timestamptz = (micros: number) => sql`${formatMicros(micros)}::timestamptz`;

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
  try {
    for (let removed = -1; removed !== 0 && !signal?.aborted; total += removed) removed = await removeSome();
  } catch (error) {
    throw postgresError(error);
  }
  return total;
};

/** Rows received before this were removed from the table by policy; null: none ever was. Microseconds. @throws PinflowError `postgres_unavailable` */
export const removedBefore = async ({ db }: Db, name: RemovableTable): Promise<number | null> => {
  const before = sql<string>`to_char(${speedRemovals.before} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
  const [row] = await db
    .select({ before })
    .from(speedRemovals)
    .where(eq(speedRemovals.table, name))
    .catch((error: unknown) => Promise.reject(postgresError(error)));
  return parseMicros(row?.before);
};
