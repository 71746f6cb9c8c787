import { isUuid } from '../../pin/pin.ts';
import type { BytesWriter } from '../bytes-writer.ts';

/**
 * Values as they are bound to a statement in the native protocol from version 3 on: a length of 32 bits, then the bytes; the length
 * -1 is null (https://github.com/apache/cassandra/blob/cassandra-5.0/doc/native_protocol_v4.spec, [value] and section 6).
 * cassandra-driver makes two buffers of each value and joins the list of them, which is most of what writing a row takes.
 */
const NULL_LENGTH = -1;
/** Of the length before each value. */
export const LENGTH_BYTES = 4;
const UUID_BYTES = 16;
const LONG_BYTES = 8;
const INT_BYTES = 4;

/** What is written to a column of each type; the types as `system_schema.columns` words them. */
export type CqlValues = {
  readonly uuid: string;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
  /** Of 64 bits; a number is a safe integer. */
  readonly bigint: number | bigint | null;
  readonly int: number;
  readonly text: string | null;
  readonly boolean: boolean;
  /** An empty one is written as null, as the driver does. */
  readonly 'frozen<list<text>>': readonly string[] | null;
};

export type CqlType = keyof CqlValues;

const writeInt = (out: BytesWriter, value: number): void => {
  if ((value | 0) !== value) throw new RangeError(`${value} is no integer of 32 bits`);
  out.int32(INT_BYTES);
  out.int32(value);
};

const INT64_MAX = 2n ** 63n - 1n;
const isInt64 = (value: number | bigint): boolean =>
  typeof value === 'bigint' ? value <= INT64_MAX && value >= -INT64_MAX - 1n : Number.isSafeInteger(value);

const writeLong = (out: BytesWriter, value: number | bigint): void => {
  if (!isInt64(value)) throw new RangeError(`${value} is no exact integer of 64 bits`);
  out.int32(LONG_BYTES);
  if (typeof value === 'bigint') out.bigint64(value);
  else out.int64(value);
};

const writeUuid = (out: BytesWriter, uuid: string): void => {
  if (!isUuid(uuid)) throw new TypeError(`${uuid} is no UUID`);
  out.int32(UUID_BYTES);
  out.uuid(uuid);
};

const writeBoolean = (out: BytesWriter, value: boolean): void => {
  out.int32(1);
  out.int8(value ? 1 : 0);
};

const writeTexts = (out: BytesWriter, texts: readonly string[]): void =>
  out.sized((values: readonly string[]) => {
    out.int32(values.length);
    for (const text of values) out.text(text);
  }, texts);

const writeNull = (out: BytesWriter): void => out.int32(NULL_LENGTH);

/** Writes one value. @throws TypeError, RangeError for one that its type does not have */
export const WRITE: { readonly [T in CqlType]: (out: BytesWriter, value: CqlValues[T]) => void } = {
  uuid: writeUuid,
  timestamp: writeLong,
  bigint: (out, value) => (value === null ? writeNull(out) : writeLong(out, value)),
  int: writeInt,
  text: (out, value) => (value === null ? writeNull(out) : out.text(value)),
  boolean: writeBoolean,
  'frozen<list<text>>': (out, value) =>
    value === null || value.length === 0 ? writeNull(out) : writeTexts(out, value),
};
