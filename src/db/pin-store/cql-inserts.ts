import { boundValues } from './cql-bound-values.ts';
import { createTarget } from './cql-encoding.ts';
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

/** @returns also the rows that have a value which their column cannot have */
export const insertsOf = (
  rows: readonly PinRow[],
  generation: number,
): { readonly inserts: readonly Insert[]; readonly refusals: readonly Refusal[] } => {
  const target = createTarget();
  const inserts: Insert[] = [];
  const refusals: Refusal[] = [];
  for (const row of rows) {
    const { uniqueId } = row;
    try {
      const encoded = encodeRow(target, row, generation);
      inserts.push({ uniqueId, params: boundValues(encoded, VALUE_COUNT), bytes: sizeOf(encoded) });
    } catch (error) {
      refusals.push({ uniqueId, error });
    }
  }
  return { inserts, refusals };
};
