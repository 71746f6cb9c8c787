import { createBytesWriter } from '../bytes-writer.ts';
import { boundValues } from './cql-bound-values.ts';
import { encodeRow, sizeOf, VALUE_COUNT } from './cql-rows.ts';
import type { PinRow } from './pin-store.ts';

/** A row ready to be sent. */
export type Insert = {
  readonly uniqueId: string;
  /** Of `insertCql`; the first one is the partition key. See {@link boundValues}. */
  readonly params: Buffer[];
  /** See {@link sizeOf}. */
  readonly bytes: number;
};

export type Refusal = { readonly uniqueId: string; readonly error: unknown };

/** First guess for a row. */
const ROW_BYTES = 640;

/** @returns also the rows that have a value which their column cannot have */
export const insertsOf = (
  rows: readonly PinRow[],
  generation: number,
): { readonly inserts: readonly Insert[]; readonly refusals: readonly Refusal[] } => {
  const out = createBytesWriter(rows.length * ROW_BYTES);
  const refusals: Refusal[] = [];
  const encoded = rows.flatMap((row) => {
    const { uniqueId } = row;
    const begin = out.length();
    try {
      encodeRow(out, row, generation);
      return { uniqueId, begin, end: out.length() };
    } catch (error) {
      out.cut(begin);
      refusals.push({ uniqueId, error });
      return [];
    }
  });
  const all = out.written();
  const inserts = encoded.map(({ uniqueId, begin, end }): Insert => {
    const values = all.subarray(begin, end);
    return { uniqueId, params: boundValues(values, VALUE_COUNT), bytes: sizeOf(values) };
  });
  return { inserts, refusals };
};
