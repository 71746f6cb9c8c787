import { isPinflowError, messageOf, PinflowError } from '../../errors.ts';
import type { QueryResult } from '../pin-store/pin-store.ts';
import { oneReadOnlyStatement } from '../read-only.ts';
import { textArray } from './array-text.ts';
import { postgresError } from './errors.ts';
import type { Database } from './open.ts';
import { namesOf } from './sql-names.ts';

export type AskLimits = {
  /** Most rows of the answer. */
  readonly rows: number;
  /** Longest run, milliseconds: Postgres ends the statement then. */
  readonly timeoutMs: number;
  /** Highest estimate of the planner, in its own units. The embedded Postgres has one thread and cannot be interrupted. */
  readonly maxCost: number | null;
};

/** Functions whose result changes from call to call but that change nothing. */
const HARMLESS = ['random', 'clock_timestamp', 'gen_random_uuid', 'timeofday'];

/**
 * Reading needs no volatile function: those are the ones that may end sessions, hold locks, read files, change settings or
 * run text as SQL, all of which a read-only transaction allows. Names of the catalog are not for guests either.
 */
const VOLATILE = `select proname from pg_catalog.pg_proc where provolatile = 'v' and proname = any($1::text[]) limit 1`;

const OPEN = (timeoutMs: number) =>
  `select set_config('statement_timeout', '${timeoutMs}', true), set_config('standard_conforming_strings', 'on', true),
    set_config('idle_in_transaction_session_timeout', '${2 * timeoutMs}', true)`;

const INT8 = 20;

/** Sent to the driver as one statement: with `simple` the text could be several, of which the second is in no transaction. */
const EXTENDED = { prepare: false, simple: false } as { prepare: boolean };

const refuse = (message: string) => new PinflowError('query', message);

const checkNames = (sql: string): readonly string[] => {
  const { all, called } = namesOf(sql);
  const system = [...all].find((name) => name.startsWith('pg_') && name !== 'pg_typeof');
  if (system !== undefined)
    throw refuse(`"${system}" is of Postgres itself: ask the tables pins, pin_error_windows, batch_runs, and so on.`);
  return [...called].filter((name) => !HARMLESS.includes(name));
};

type Transaction = Parameters<Parameters<Database['sql']['begin']>[1]>[0];

const checkCost = async (tx: Transaction, sql: string, maxCost: number): Promise<void> => {
  if (namesOf(sql).all.has('recursive'))
    throw refuse('the embedded Postgres cannot end a recursion that never does: ask without WITH RECURSIVE.');
  const explain = /^\s*explain\b/i.test(sql);
  if (explain && /^\s*explain\b(?:\s+verbose)?\s+(?:select|with|values|table)\b/i.test(sql)) return;
  if (explain) throw refuse('the embedded Postgres takes a plain EXPLAIN only.');
  if (/^\s*show\b/i.test(sql)) return;
  const [row] = await tx.unsafe(`explain (format json) ${sql}`, [], EXTENDED);
  const plan = row?.['QUERY PLAN'] as string | readonly unknown[];
  const [{ Plan }] = (typeof plan === 'string' ? JSON.parse(plan) : plan) as [{ Plan: { 'Total Cost': number } }];
  if (Plan['Total Cost'] > maxCost)
    throw refuse(
      `this would take too long here (planner's estimate ${Math.round(Plan['Total Cost'])}, at most ${maxCost}): narrow it.`,
    );
};

/** An int8 comes as text: a number where that is exact. */
const plain = (value: unknown, type: number): unknown =>
  type === INT8 && typeof value === 'string' && Number.isSafeInteger(Number(value)) ? Number(value) : value;

type Column = { readonly name: string; readonly type: number };
type Page = readonly (readonly unknown[])[] & { readonly columns: readonly Column[] };

const resultOf = (page: Page, limit: number): QueryResult => {
  const columns = page.columns.map(({ name }) => name);
  const rows = page.map((row) => row.map((value, i) => plain(value, page.columns[i]?.type ?? 0)));
  return { columns, rows: rows.slice(0, limit), truncated: rows.length > limit };
};

/** The first page of a cursor: rows beyond it are never computed. */
const readRows = async (tx: Transaction, sql: string, limit: number): Promise<QueryResult> => {
  const statement = () => tx.unsafe(sql, [], EXTENDED);
  // These know no cursor, and answer in few rows.
  if (/^\s*(show|explain)\b/i.test(sql)) return resultOf((await statement().values()) as unknown as Page, limit);
  const pages = statement()
    .values()
    .cursor(limit + 1) as unknown as AsyncIterable<Page>;
  for await (const page of pages) return resultOf(page, limit);
  const { columns } = await statement().describe();
  return { columns: columns.map(({ name }) => name), rows: [], truncated: false };
};

/** What went wrong in words for whoever wrote the statement; a server that is away is told as everywhere else. */
const askError = (error: unknown, timeoutMs: number): PinflowError => {
  if (isPinflowError(error)) return error;
  const code = String((error as { readonly code?: unknown }).code);
  if (code === '57014') return refuse(`no answer within ${timeoutMs / 1000} s: narrow it with WHERE or LIMIT.`);
  // The SQLSTATE of a statement that is wrong (0A, 21 to 2F, 42) or wants to write (25006).
  return /^(0A|2[1-9A-F]|42|54)/.test(code) ? refuse(`Postgres says: ${messageOf(error)}.`) : postgresError(error);
};

/** Thrown to end the transaction without a commit: settings made in it are gone with it. */
const DONE = Symbol('read');

/**
 * One statement over the speed view that reads and does nothing else: by its words, by the functions it calls, in a read-only
 * transaction that is rolled back, under a time limit.
 * @throws PinflowError `query` with Postgres's reason, `postgres_unavailable`
 */
export const askPostgres = async (
  { sql: pool }: Pick<Database, 'sql'>,
  text: string,
  { rows, timeoutMs, maxCost }: AskLimits,
): Promise<QueryResult> => {
  const statement = oneReadOnlyStatement(text);
  const called = checkNames(statement);
  let result: QueryResult | null = null;
  const work = pool.begin('read only', async (tx) => {
    await tx.unsafe(OPEN(timeoutMs));
    const [volatile] = await tx.unsafe(VOLATILE, [textArray(called)]);
    if (volatile !== undefined)
      throw refuse(`the function "${volatile.proname}" may do more than read: it is not for here.`);
    if (maxCost !== null) await checkCost(tx, statement, maxCost);
    result = await readRows(tx, statement, rows);
    throw DONE;
  });
  try {
    await work;
  } catch (error) {
    if (error === DONE && result !== null) return result;
    throw askError(error, timeoutMs);
  }
  throw refuse('no answer came.');
};
