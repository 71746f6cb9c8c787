import { NO_HEADERS, NOTHING } from './kafka-records.ts';
import type { LogRecord } from './log.ts';

/**
 * Records as they stand in batches of Kafka's message format 2 (https://kafka.apache.org/documentation/#recordbatch). kafkajs makes
 * several buffers, big integers and objects of each record, which is more than all the work that follows.
 */

/** One batch as it was fetched: its header is read, its records are still compressed. */
export type RecordBatch = {
  readonly firstOffset: number;
  readonly lastOffset: number;
  readonly attributes: number;
  /** Milliseconds since the Unix epoch; of the first record, and the newest. */
  readonly firstTimestamp: number;
  readonly maxTimestamp: number;
  readonly producerId: string;
  /** Records in it: fewer than its offsets where the topic was compacted. */
  readonly count: number;
  /** Records, compressed as `attributes` say. */
  readonly body: Buffer;
};

const FORMAT = 2;
/** Where the fields of a batch's header begin, bytes. */
const AT = {
  length: 8,
  magic: 16,
  attributes: 21,
  lastOffsetDelta: 23,
  firstTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  count: 57,
  records: 61,
} as const;
/** What `length` counts begins after itself. */
const LENGTH_END = 12;

const COMPRESSION = 0b111;
const APPEND_TIME = 0b1000;
const TRANSACTIONAL = 0b1_0000;
const CONTROL = 0b10_0000;

export const compressionOf = ({ attributes }: RecordBatch): number => attributes & COMPRESSION;
export const isTransactional = ({ attributes }: RecordBatch): boolean => (attributes & TRANSACTIONAL) !== 0;
export const isControl = ({ attributes }: RecordBatch): boolean => (attributes & CONTROL) !== 0;

const readBatch = (bytes: Buffer, at: number, end: number): RecordBatch => {
  const firstOffset = Number(bytes.readBigInt64BE(at));
  return {
    firstOffset,
    lastOffset: firstOffset + bytes.readInt32BE(at + AT.lastOffsetDelta),
    attributes: bytes.readInt16BE(at + AT.attributes),
    firstTimestamp: Number(bytes.readBigInt64BE(at + AT.firstTimestamp)),
    maxTimestamp: Number(bytes.readBigInt64BE(at + AT.maxTimestamp)),
    producerId: String(bytes.readBigInt64BE(at + AT.producerId)),
    count: bytes.readInt32BE(at + AT.count),
    body: bytes.subarray(at + AT.records, end),
  };
};

/**
 * The batches in what a broker answers for one partition. The last may be cut off by the limit of the fetch: it is left out.
 * @returns null when there is one of an older format
 */
export const readBatches = (bytes: Buffer): readonly RecordBatch[] | null => {
  const batches: RecordBatch[] = [];
  for (let at = 0; at + AT.records <= bytes.length; ) {
    if (bytes[at + AT.magic] !== FORMAT) return null;
    const end = at + LENGTH_END + bytes.readInt32BE(at + AT.length);
    if (end > bytes.length) break;
    batches.push(readBatch(bytes, at, end));
    at = end;
  }
  return batches;
};

const VARINT_MORE = 0x80;
const VARINT_DATA = 0x7f;
const VARINT_DATA_BITS = 7;

/** Reads on through bytes. Numbers are zigzag varints; lengths of -1 stand for null. */
const createCursor = (bytes: Buffer) => {
  let at = 0;
  const int32 = (): number => {
    let byte = bytes[at++] as number;
    let value = byte & VARINT_DATA;
    for (let shift = VARINT_DATA_BITS; byte >= VARINT_MORE; shift += VARINT_DATA_BITS) {
      byte = bytes[at++] as number;
      value |= (byte & VARINT_DATA) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  };
  /** Exact up to 2^53, as times are. */
  const long = (): number => {
    let [value, factor] = [0, 1];
    for (let byte = VARINT_MORE; byte >= VARINT_MORE; factor *= VARINT_MORE) {
      byte = bytes[at++] as number;
      value += (byte & VARINT_DATA) * factor;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  };
  /** @returns where what is skipped begins */
  const skip = (length: number): number => {
    at += length;
    return at - length;
  };
  const text = (length: number): string => bytes.toString('utf8', skip(length), at);
  const view = (length: number): Buffer => bytes.subarray(skip(length), at);
  return { int32, long, skip, text, view, at: () => at };
};

type Cursor = ReturnType<typeof createCursor>;

/** Of a header given several times, the last counts. */
const readHeaders = (cursor: Cursor): Readonly<Record<string, string>> => {
  const count = cursor.int32();
  if (count <= 0) return NO_HEADERS;
  return Object.fromEntries(
    Array.from({ length: count }, () => [cursor.text(cursor.int32()), cursor.text(Math.max(0, cursor.int32()))]),
  );
};

/**
 * The records of a batch. Their values are views of `body`. A null value (a tombstone of another producer) is an empty one.
 * @param body of the batch, decompressed
 * @throws Error when it is not what the format says
 */
export const decodeRecords = (partition: number, batch: RecordBatch, body: Buffer): readonly LogRecord[] => {
  const { firstOffset, firstTimestamp, maxTimestamp, count } = batch;
  const isAppendTime = (batch.attributes & APPEND_TIME) !== 0;
  const cursor = createCursor(body);
  const records: LogRecord[] = [];
  for (let i = 0; i < count; i++) {
    const length = cursor.int32();
    const end = cursor.at() + length;
    cursor.skip(1); // attributes: none are defined
    const timestamp = firstTimestamp + cursor.long();
    const offset = firstOffset + cursor.int32();
    const keyBytes = cursor.int32();
    const key = keyBytes < 0 ? null : cursor.text(keyBytes);
    const valueBytes = cursor.int32();
    const value = valueBytes < 0 ? NOTHING : cursor.view(valueBytes);
    const headers = readHeaders(cursor);
    if (cursor.at() !== end || end > body.length) {
      throw new Error(`record ${i} of the batch at offset ${firstOffset} of partition ${partition} is damaged`);
    }
    records.push({ partition, offset, key, value, timestamp: isAppendTime ? maxTimestamp : timestamp, headers });
  }
  return records;
};

/** Key of the first record of a control batch: says whether its transaction was committed or aborted. */
export const controlKey = ({ body }: RecordBatch): Buffer => {
  const cursor = createCursor(body);
  cursor.int32();
  cursor.skip(1);
  cursor.long();
  cursor.int32();
  return cursor.view(Math.max(0, cursor.int32()));
};
