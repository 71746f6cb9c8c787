import type { NewRecord } from './log.ts';

/**
 * Records as they stand in a batch of Kafka's message format 2 (https://kafka.apache.org/documentation/#record): lengths and
 * deltas are zigzag varints. kafkajs encodes each through several buffers that it grows, which is half of the work of a
 * bulk append.
 */
const VARINT_DATA_BITS = 7;
const VARINT_MORE = 0x80;
/** More than attributes, deltas, lengths and the count of headers take in a record; bytes. */
const RECORD_OVERHEAD_BYTES = 32;
/** More than the two lengths of a header take; bytes. */
const HEADER_OVERHEAD_BYTES = 10;
/** UTF-8 of a UTF-16 unit, at most. */
const MAX_BYTES_A_UNIT = 3;

/** What a record may take, at most. */
const roomFor = (record: NewRecord): number => {
  const { key, headers = {} } = record;
  let room = RECORD_OVERHEAD_BYTES + key.length * MAX_BYTES_A_UNIT + record.value.byteLength;
  for (const name in headers) {
    room += HEADER_OVERHEAD_BYTES + (name.length + (headers[name] as string).length) * MAX_BYTES_A_UNIT;
  }
  return room;
};

/** @param value a 32-bit integer, not negative: lengths, counts and deltas are */
const varintBytes = (value: number): number => {
  let bytes = 1;
  for (let rest = (value << 1) >>> VARINT_DATA_BITS; rest > 0; rest >>>= VARINT_DATA_BITS) bytes += 1;
  return bytes;
};

const writeVarint = (target: Buffer, at: number, value: number): number => {
  let rest = value << 1;
  let next = at;
  while (rest >= VARINT_MORE) {
    target[next++] = (rest & (VARINT_MORE - 1)) | VARINT_MORE;
    rest >>>= VARINT_DATA_BITS;
  }
  target[next++] = rest;
  return next;
};

const writeText = (target: Buffer, at: number, text: string, bytes: number): number => {
  const start = writeVarint(target, at, bytes);
  return start + (bytes === text.length ? target.write(text, start, 'latin1') : target.write(text, start));
};

const textBytes = (text: string): number => varintBytes(Buffer.byteLength(text)) + Buffer.byteLength(text);

/** @returns where the next record begins */
const writeRecord = (target: Buffer, at: number, { key, value, headers }: NewRecord, offsetDelta: number): number => {
  const names = headers === undefined ? [] : Object.keys(headers);
  const keyBytes = Buffer.byteLength(key);
  const valueBytes = value.byteLength;
  let bodyBytes =
    2 + varintBytes(offsetDelta) + varintBytes(keyBytes) + keyBytes + varintBytes(valueBytes) + valueBytes;
  bodyBytes += varintBytes(names.length);
  for (const name of names) bodyBytes += textBytes(name) + textBytes(headers?.[name] as string);

  let next = writeVarint(target, at, bodyBytes);
  target[next++] = 0; // attributes: none are defined
  target[next++] = 0; // timestamp: that of the batch
  next = writeVarint(target, next, offsetDelta);
  next = writeText(target, next, key, keyBytes);
  next = writeVarint(target, next, valueBytes);
  target.set(value, next);
  next = writeVarint(target, next + valueBytes, names.length);
  for (const name of names) {
    const text = headers?.[name] as string;
    next = writeText(target, next, name, Buffer.byteLength(name));
    next = writeText(target, next, text, Buffer.byteLength(text));
  }
  return next;
};

/** The records of one batch, uncompressed, their offsets counted from 0 and their timestamps those of the batch. */
export const encodeRecords = (records: readonly NewRecord[]): Buffer => {
  const target = Buffer.allocUnsafe(records.reduce((room, record) => room + roomFor(record), 0));
  let at = 0;
  for (const [offsetDelta, record] of records.entries()) at = writeRecord(target, at, record, offsetDelta);
  return target.subarray(0, at);
};
