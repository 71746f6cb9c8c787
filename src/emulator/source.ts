import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream';
import { SQL } from 'bun';
import { parse } from 'csv-parse';
import { PinflowError } from '../errors.ts';
import { type GenerateOptions, generatePins } from './generate.ts';

/** Posts to be, as the JSON text of one each. */
export type PostSource = AsyncIterable<string>;

type Row = Readonly<Record<string, unknown>>;

/** Rows fetched at a time: a page of about half a megabyte. */
const PAGE_ROWS = 1000;

/** Columns that are numbers in a pin, whatever the source has them as. What is no number stays: the edge says what is wrong. */
const NUMBERS = new Set(['index', 'downloaded']);

const field = (name: string, value: unknown): unknown => {
  if (NUMBERS.has(name) && value !== null && value !== '') {
    const number = Number(value);
    return Number.isFinite(number) ? number : value;
  }
  return typeof value === 'bigint' ? String(value) : value;
};

const post = (row: Row): string =>
  JSON.stringify(Object.fromEntries(Object.entries(row).map(([name, value]) => [name, field(name, value)])));

async function* generated(options: GenerateOptions): PostSource {
  for (const pin of generatePins(options)) yield JSON.stringify(pin);
}

const opened = async (path: string) => {
  if (!(await Bun.file(path).exists())) {
    throw new PinflowError(
      'config',
      `${path} is not there, or is no file: --from takes FILE.ndjson, FILE.csv or a database URL`,
    );
  }
  return createReadStream(path);
};

/** Lines go out as they are, so that whatever a line holds reaches the edge. */
async function* fromNdjson(path: string): PostSource {
  for await (const line of createInterface({ input: await opened(path), crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() !== '') yield line;
  }
}

/** The first line names the fields. CSV knows no null: an empty cell is one. */
async function* fromCsv(path: string): PostSource {
  const rows = pipeline(await opened(path), parse({ columns: true, bom: true, skip_empty_lines: true }), () => {});
  for await (const row of rows as AsyncIterable<Readonly<Record<string, string>>>) {
    yield post(Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value === '' ? null : value])));
  }
}

/** The URL of the database itself, and the table its `?table=` named. */
const tableOf = (from: string): { readonly url: string; readonly table: string } => {
  const url = new URL(from);
  const table = url.searchParams.get('table') ?? '';
  if (table === '') {
    throw new PinflowError(
      'config',
      `${url.protocol}//${url.host}${url.pathname}: add ?table=NAME, the table to post from`,
    );
  }
  url.searchParams.delete('table');
  return { url: url.toString(), table };
};

/** Rows in the order of (index, unique_id), a page at a time: the next page starts after the last row of this one. */
async function* fromDatabase(from: string): PostSource {
  const { url, table } = tableOf(from);
  const sql = new SQL(url, { max: 1 });
  const order = sql`ORDER BY ${sql('index')}, ${sql('unique_id')} LIMIT ${PAGE_ROWS}`;
  try {
    let page: readonly Row[] = await sql`SELECT * FROM ${sql(table)} ${order}`;
    for (;;) {
      for (const row of page) yield post(row);
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE_ROWS) return;
      const after = sql`WHERE (${sql('index')}, ${sql('unique_id')}) > (${last.index}, ${last.unique_id})`;
      page = await sql`SELECT * FROM ${sql(table)} ${after} ${order}`;
    }
  } finally {
    await sql.close();
  }
}

/**
 * What the emulator posts: pins made up, the lines of FILE.ndjson, the rows of FILE.csv, or those of a table
 * (`mysql://user:password@host/database?table=pinterest_data`, or `postgres://…`) with the columns of a pin. Whatever else
 * a row has travels along. Nothing is opened before the first post is asked for.
 *
 * @param from undefined for pins made up
 * @throws PinflowError `config` when it is no such source
 */
export const openSource = (from: string | undefined, generate: GenerateOptions): PostSource => {
  if (from === undefined) return generated(generate);
  if (/^(mysql|mariadb|postgres|postgresql):\/\//.test(from)) return fromDatabase(from);
  if (/\.(ndjson|jsonl)$/i.test(from)) return fromNdjson(from);
  if (/\.csv$/i.test(from)) return fromCsv(from);
  throw new PinflowError(
    'config',
    '--from should be FILE.ndjson, FILE.csv, mysql://…?table=NAME or postgres://…?table=NAME',
  );
};
