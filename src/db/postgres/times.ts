import { type AnyColumn, type SQL, sql } from 'drizzle-orm';
import { formatMicros } from '../../pin/timestamp.ts';

/** Microseconds since the Unix epoch as a `timestamptz`, exactly. */
export const timestamptz = (micros: number): SQL => sql`${formatMicros(micros)}::timestamptz`;

/** A `timestamptz` as text with six digits of a second, in a form that does not hang on the session's settings. */
export const rfc3339 = (column: AnyColumn): SQL<string> =>
  sql<string>`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
