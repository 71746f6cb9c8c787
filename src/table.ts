import Table from 'cli-table3';
import { stringify } from 'csv-stringify/sync';

/** How a command prints its answer. */
export type Format = 'table' | 'json' | 'csv';

type Rows = { readonly columns: readonly string[]; readonly rows: readonly (readonly unknown[])[] };

/** Characters of a cell in a table; a description would else push the other columns off the screen. JSON and CSV cut nothing. */
const CELL_MAX = 80;

/** What a driver may answer with → what JSON can hold. */
export const jsonValue = (value: unknown): unknown => {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (Array.isArray(value)) return value.map(jsonValue);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, jsonValue(inner)]));
  }
  return value ?? null;
};

/** A value as plain text: lists and objects as JSON, nothing for null. */
const cellText = (value: unknown): string => {
  const plain = jsonValue(value);
  if (plain === null) return '';
  return typeof plain === 'object' ? JSON.stringify(plain) : String(plain);
};

/** Pins are what strangers wrote: a control character must not reach the terminal as one. */
const visible = (text: string): string =>
  text.replace(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);

const cut = (text: string): string => {
  const characters = [...text];
  return characters.length > CELL_MAX ? `${characters.slice(0, CELL_MAX - 1).join('')}…` : text;
};

/** `select a, a` has two columns of one name; an object can have it once. */
const distinct = (columns: readonly string[]): readonly string[] => {
  const seen = new Map<string, number>();
  return columns.map((column) => {
    const times = (seen.get(column) ?? 0) + 1;
    seen.set(column, times);
    return times === 1 ? column : `${column}_${times}`;
  });
};

const toJson = ({ columns, rows }: Rows): string => {
  const names = distinct(columns);
  const objects = rows.map((row) => Object.fromEntries(names.map((name, i) => [name, jsonValue(row[i])])));
  return JSON.stringify(objects, null, 2);
};

const toCsv = ({ columns, rows }: Rows): string =>
  stringify([columns, ...rows.map((row) => columns.map((_, i) => cellText(row[i])))], { quoted_match: /\r/ }).slice(
    0,
    -1,
  );

const toTable = ({ columns, rows }: Rows): string => {
  const table = new Table({ head: [...columns], style: { head: [], border: [], compact: true } });
  for (const row of rows) table.push(columns.map((_, i) => cut(visible(cellText(row[i])))));
  return table.toString();
};

/**
 * Rows as text, without a line break at the end. `json` is one array of objects: bigints are numbers where those are exact,
 * else strings; dates are RFC 3339; bytes are base64. `csv` has a header line and quotes as RFC 4180 does.
 */
export const printRows = (result: Rows, format: Format): string => {
  if (format === 'json') return toJson(result);
  return format === 'csv' ? toCsv(result) : toTable(result);
};
