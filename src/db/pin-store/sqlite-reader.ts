import { Database } from 'bun:sqlite';
import { messageOf, PinflowError } from '../../errors.ts';
import { oneReadOnlyStatement, QUOTED } from '../read-only.ts';
import type { QueryResult } from './pin-store.ts';

export type SqliteReader = {
  readonly query: (sql: string, limit: number) => QueryResult;
  readonly close: () => void;
};

/**
 * Longest a query may go on giving rows, milliseconds. SQLite runs in this thread and bun:sqlite offers no interrupt, so the
 * time is looked at from row to row: a statement that computes for long before its first row is not cut short.
 */
const QUERY_DEADLINE_MS = 30_000;
/** Longest wait for a lock, milliseconds; in WAL mode readers hardly ever wait. */
const BUSY_TIMEOUT_MS = 5000;

const refuse = (message: string, cause?: unknown) => new PinflowError('query', message, { cause });

/** An integer as a number where that is exact, else as a bigint. */
const plain = (value: unknown): unknown =>
  typeof value === 'bigint' && BigInt(Number(value)) === value && Number.isSafeInteger(Number(value))
    ? Number(value)
    : value;

/** Drops `keyspace.` and `catalog.keyspace.` before a name, so that a query written for Trino runs here too. */
const unqualify = (names: { readonly keyspace: string; readonly catalog: string }) => {
  const word = (name: string) => `(?:"${RegExp.escape(name)}"|\\b${RegExp.escape(name)}\\b)`;
  const qualifier = `(?:${word(names.catalog)}\\s*\\.\\s*)?${word(names.keyspace)}\\s*\\.\\s*(?=["\\w])`;
  const pattern = new RegExp(`(${qualifier})|${QUOTED}`, 'gi');
  return (sql: string) => sql.replace(pattern, (text, found: string | undefined) => (found === undefined ? text : ''));
};

const readRows = (db: Database, sql: string, limit: number): QueryResult => {
  using statement = db.prepare<Record<string, unknown>, []>(sql);
  const columns = statement.columnNames;
  if (!statement.readonly) throw refuse('only reading is allowed: this statement writes.');
  if (statement.paramsCount > 0) throw refuse('the query has parameters (? or :name): write the values into it.');
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined) throw refuse(`two columns are called "${twice}": give one another name with AS.`);
  const rows: unknown[][] = [];
  const deadline = performance.now() + QUERY_DEADLINE_MS;
  for (const row of statement.iterate()) {
    if (rows.length >= limit) return { columns, rows, truncated: true };
    if (performance.now() > deadline) {
      throw refuse(`the query took longer than ${QUERY_DEADLINE_MS / 1000} s: narrow it with WHERE or LIMIT.`);
    }
    rows.push(columns.map((name) => plain(row[name])));
  }
  return { columns, rows, truncated: false };
};

const openReadOnly = (path: string): Database => {
  const db = new Database(path, { readonly: true, strict: true, safeIntegers: true });
  db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  db.run('PRAGMA query_only = ON');
  return db;
};

/** SQL over the embedded store on a connection of its own that cannot write; opened at the first query. */
export const openSqliteReader = (
  path: string,
  names: { readonly keyspace: string; readonly catalog: string },
): SqliteReader => {
  const withoutQualifiers = unqualify(names);
  let db: Database | null = null;
  return {
    query: (sql, limit) => {
      const statement = withoutQualifiers(oneReadOnlyStatement(sql));
      try {
        db ??= openReadOnly(path);
        return readRows(db, statement, limit);
      } catch (error) {
        if (error instanceof PinflowError) throw error;
        throw refuse(`the embedded pin store refused the query: ${messageOf(error)}.`, error);
      }
    },
    close: () => {
      db?.close();
      db = null;
    },
  };
};
