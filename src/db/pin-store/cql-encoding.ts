import { isUuid } from '../../pin/pin.ts';

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
/** UTF-8 of a UTF-16 unit, at most. */
const MAX_BYTES_A_UNIT = 3;
/** Rows are written one after the other into buffers of this size; a larger row gets one of its own. */
const BUFFER_BYTES = 64 * 1024;
const TWO_TO_32 = 2 ** 32;

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

/** Where rows are written, value after value. */
export type CqlTarget = {
  bytes: Buffer;
  view: DataView;
  /** Where the row under way begins, and where its next value goes. */
  begin: number;
  at: number;
};

const viewOf = ({ buffer, byteOffset, length }: Buffer): DataView => new DataView(buffer, byteOffset, length);

export const createTarget = (): CqlTarget => {
  const bytes = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  return { bytes, view: viewOf(bytes), begin: 0, at: 0 };
};

/** What was written of a row before is forgotten. */
export const beginRow = (target: CqlTarget): void => {
  target.begin = target.at;
};

/** The values written since {@link beginRow}; nothing changes them later. */
export const takeRow = (target: CqlTarget): Buffer => target.bytes.subarray(target.begin, target.at);

/** The row goes on in another buffer. Rows that were taken keep the one they are in. */
const grow = (target: CqlTarget, room: number): void => {
  const written = takeRow(target);
  target.bytes = Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES, 2 * written.length + room));
  target.view = viewOf(target.bytes);
  target.bytes.set(written);
  target.begin = 0;
  target.at = written.length;
};

const ensure = (target: CqlTarget, room: number): void => {
  if (target.at + room > target.bytes.length) grow(target, room);
};

const writeLength = (target: CqlTarget, length: number): void => {
  target.view.setInt32(target.at, length);
  target.at += LENGTH_BYTES;
};

const writeNull = (target: CqlTarget): void => {
  ensure(target, LENGTH_BYTES);
  writeLength(target, NULL_LENGTH);
};

const writeInt = (target: CqlTarget, value: number): void => {
  if ((value | 0) !== value) throw new RangeError(`${value} is no integer of 32 bits`);
  ensure(target, LENGTH_BYTES + INT_BYTES);
  writeLength(target, INT_BYTES);
  target.view.setInt32(target.at, value);
  target.at += INT_BYTES;
};

const writeLong = (target: CqlTarget, value: number | bigint): void => {
  ensure(target, LENGTH_BYTES + LONG_BYTES);
  writeLength(target, LONG_BYTES);
  if (typeof value === 'bigint') target.view.setBigInt64(target.at, value);
  else {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no exact integer`);
    // In two halves, both exact: making a bigint of it takes several times as long.
    const high = Math.floor(value / TWO_TO_32);
    target.view.setInt32(target.at, high);
    target.view.setUint32(target.at + LONG_BYTES / 2, value - high * TWO_TO_32);
  }
  target.at += LONG_BYTES;
};

const writeText = (target: CqlTarget, text: string): void => {
  ensure(target, LENGTH_BYTES + MAX_BYTES_A_UNIT * text.length);
  const bytes = target.bytes.write(text, target.at + LENGTH_BYTES);
  writeLength(target, bytes);
  target.at += bytes;
};

const writeTexts = (target: CqlTarget, texts: readonly string[]): void => {
  ensure(target, 2 * LENGTH_BYTES);
  // Counted from the row's begin, as the row may move to another buffer.
  const place = target.at - target.begin;
  target.at += LENGTH_BYTES;
  writeLength(target, texts.length);
  for (const text of texts) writeText(target, text);
  const at = target.begin + place;
  target.view.setInt32(at, target.at - at - LENGTH_BYTES);
};

const NINE = '9'.charCodeAt(0);

/** @param code of one of 0-9, a-f, A-F */
const hexDigit = (code: number): number => (code & 0xf) + (code > NINE ? 9 : 0);

const writeUuid = (target: CqlTarget, uuid: string): void => {
  if (!isUuid(uuid)) throw new TypeError(`${uuid} is no UUID`);
  ensure(target, LENGTH_BYTES + UUID_BYTES);
  writeLength(target, UUID_BYTES);
  for (let i = 0; i < uuid.length; i += 2) {
    if (uuid[i] === '-') i++;
    target.bytes[target.at++] = (hexDigit(uuid.charCodeAt(i)) << 4) | hexDigit(uuid.charCodeAt(i + 1));
  }
};

const writeBoolean = (target: CqlTarget, value: boolean): void => {
  ensure(target, LENGTH_BYTES + 1);
  writeLength(target, 1);
  target.bytes[target.at++] = value ? 1 : 0;
};

/** Writes one value. @throws TypeError, RangeError for one that its type does not have */
export const WRITE: { readonly [T in CqlType]: (target: CqlTarget, value: CqlValues[T]) => void } = {
  uuid: writeUuid,
  timestamp: writeLong,
  bigint: (target, value) => (value === null ? writeNull(target) : writeLong(target, value)),
  int: writeInt,
  text: (target, value) => (value === null ? writeNull(target) : writeText(target, value)),
  boolean: writeBoolean,
  'frozen<list<text>>': (target, value) =>
    value === null || value.length === 0 ? writeNull(target) : writeTexts(target, value),
};
