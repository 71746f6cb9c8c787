import { types } from 'cassandra-driver';
import type { CqlType, CqlValues } from './cql-encoding.ts';
import { COLUMNS, cellTimestamp } from './cql-rows.ts';
import type { PinRow } from './pin-store.ts';

type Value = CqlValues[CqlType];

/** As the driver takes a value of that type. `bigint` is a JavaScript bigint. */
const driverValue = (type: CqlType, value: Value): unknown => {
  if (value === null) return null;
  if (type === 'uuid') return types.Uuid.fromString(value as string);
  if (type === 'timestamp') return new Date(value as number);
  return type === 'bigint' ? BigInt(value as number | bigint) : value;
};

/** Values for `insertCql` that the driver encodes itself: what our encoding is compared with, in tests and in bench/cassandra-bare.ts. */
export const toParams = (row: PinRow, generation: number): unknown[] => [
  ...Object.values(COLUMNS).map(({ type, value }) => driverValue(type, value(row))),
  generation,
  cellTimestamp(row.writeTimestamp, generation),
];
