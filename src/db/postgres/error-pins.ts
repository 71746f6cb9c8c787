import { and, desc, eq, gte, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import type { Database } from './open.ts';
import { pins } from './schema.ts';
import { type ErrorPin, errorPinColumns } from './speed-view.ts';
import { timestamptz } from './times.ts';

/** Where a page ended: the last pin it has. */
export type ErrorCursor = {
  /** Microseconds since the Unix epoch. */
  readonly receivedAtMicros: number;
  readonly uniqueId: string;
};

export type ErrorQuery = {
  /** Received then or later; microseconds since the Unix epoch. */
  readonly sinceMicros?: number | undefined;
  /** Missing after cleaning, as posted. */
  readonly field?: string | undefined;
  /** Exactly; empty: pins without one. */
  readonly category?: string | undefined;
  /** Posted with the key of this name. */
  readonly source?: string | undefined;
  readonly after?: ErrorCursor | undefined;
  /** Rows at most. */
  readonly limit: number;
};

/** A rare field or category among millions of errors is looked for through all of them: longer than this the server ends it. Milliseconds. */
const STATEMENT_TIMEOUT_MS = 5000;

const conditions = ({ sinceMicros, field, category, source, after }: ErrorQuery) =>
  and(
    // As the partial index has it: `is_error = true` would not match it.
    sql`${pins.isError}`,
    sinceMicros === undefined ? undefined : gte(pins.receivedAt, timestamptz(sinceMicros)),
    field === undefined ? undefined : sql`${field} = any(${pins.errorFields})`,
    category === undefined ? undefined : sql`coalesce(${pins.category}, '') = ${category}`,
    source === undefined ? undefined : eq(pins.source, source),
    after === undefined
      ? undefined
      : sql`(${pins.receivedAt}, ${pins.uniqueId}) < (${timestamptz(after.receivedAtMicros)}, ${after.uniqueId}::uuid)`,
  );

/** The statement of one page: read from its end along the index `pins_errors`, of which only pins of one time are sorted. */
export const selectErrorPins = (db: Pick<Database['db'], 'select'>, query: ErrorQuery) =>
  db
    .select(errorPinColumns)
    .from(pins)
    .where(conditions(query))
    .orderBy(desc(pins.receivedAt), desc(pins.uniqueId))
    .limit(query.limit);

/**
 * Erroneous pins, newest first, and of one time the highest id. A pin that comes or is posted again between two pages stands
 * before the first of them; no other is shown twice or left out.
 * @throws PinflowError `postgres_unavailable`, also when it took longer than 5 s
 */
export const errorPins = ({ db }: Pick<Database, 'db'>, query: ErrorQuery): Promise<readonly ErrorPin[]> =>
  asked(
    db.transaction(
      async (tx) => {
        await tx.execute(sql`select set_config('statement_timeout', ${String(STATEMENT_TIMEOUT_MS)}, true)`);
        return selectErrorPins(tx, query);
      },
      { accessMode: 'read only' },
    ),
  );
