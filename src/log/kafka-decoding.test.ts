import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { decodeRecords, isControl, isTransactional, type RecordBatch, readBatches } from './kafka-decoding.ts';
import { encodeRecords } from './kafka-encoding.ts';
import { anyRecord } from './record.fixture.ts';

const HEADER_BYTES = 61;
/** What the `length` of a batch does not count: its offset and itself. */
const BEFORE_LENGTH_END = 12;

/** A batch as the specification lays it out (https://kafka.apache.org/documentation/#recordbatch), uncompressed. */
const batchOf = (
  firstOffset: number,
  count: number,
  body: Uint8Array,
  { attributes = 0, firstTimestamp = 1000, maxTimestamp = 2000, magic = 2 } = {},
): Buffer => {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeBigInt64BE(BigInt(firstOffset), 0);
  header.writeInt32BE(HEADER_BYTES - BEFORE_LENGTH_END + body.length, 8);
  header.writeInt8(magic, 16);
  header.writeInt16BE(attributes, 21);
  header.writeInt32BE(count - 1, 23);
  header.writeBigInt64BE(BigInt(firstTimestamp), 27);
  header.writeBigInt64BE(BigInt(maxTimestamp), 35);
  header.writeBigInt64BE(77n, 43);
  header.writeInt32BE(count, 57);
  return Buffer.concat([header, body]);
};

const only = (batches: readonly RecordBatch[] | null): RecordBatch => {
  expect(batches).toHaveLength(1);
  return batches?.[0] as RecordBatch;
};

describe('batches of Kafka’s message format', () => {
  test('property: what is encoded is decoded, with the offsets and the time of its batch', () => {
    fc.assert(
      fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 150 }), fc.nat({ max: 2 ** 48 }), (records, first) => {
        const batch = only(readBatches(batchOf(first, records.length, encodeRecords(records))));
        expect(batch.lastOffset).toBe(first + records.length - 1);
        const decoded = decodeRecords(3, batch, batch.body);
        expect(
          decoded.map(({ value, headers, ...rest }) => ({ ...rest, value: [...value], headers: { ...headers } })),
        ).toEqual(
          records.map(({ key, value, headers = {} }, i) => ({
            partition: 3,
            offset: first + i,
            timestamp: 1000,
            key,
            value: [...value],
            headers: { ...headers },
          })),
        );
      }),
      { numRuns: 100 },
    );
  });

  test('a key and a value may be null, a timestamp below the first, an offset left out by compaction', () => {
    // Length, attributes, time, offset, key, value, headers; zigzag varints: 12 is 6, 5 is -3, 8 is 4, 1 is -1.
    const body = Buffer.from([12, 0, 5, 8, 1, 1, 0]);
    const batch = only(readBatches(batchOf(100, 1, body)));
    expect(decodeRecords(0, batch, batch.body)).toEqual([
      { partition: 0, offset: 104, timestamp: 997, key: null, value: new Uint8Array(0), headers: {} },
    ]);
  });

  test('where the broker stamps, all records have the batch’s newest time', () => {
    const body = encodeRecords([{ key: 'k', value: Uint8Array.of(1) }]);
    const batch = only(readBatches(batchOf(0, 1, body, { attributes: 0b1000 })));
    expect(decodeRecords(0, batch, batch.body)[0]?.timestamp).toBe(2000);
  });

  test('control records and transactions are told apart by the attributes', () => {
    const body = encodeRecords([{ key: 'k', value: Uint8Array.of(1) }]);
    const batch = only(readBatches(batchOf(0, 1, body, { attributes: 0b11_0000 })));
    expect([isControl(batch), isTransactional(batch), batch.producerId]).toEqual([true, true, '77']);
  });

  test('the last batch of a fetch may be cut off anywhere: it is left out', () => {
    const body = encodeRecords([{ key: 'k', value: Uint8Array.of(1, 2, 3) }]);
    const whole = batchOf(0, 1, body);
    for (let cut = 0; cut < whole.length; cut++) {
      expect(only(readBatches(Buffer.concat([whole, whole.subarray(0, cut)]))).firstOffset).toBe(0);
    }
    expect(readBatches(Buffer.concat([whole, whole]))).toHaveLength(2);
  });

  test('an older format is for kafkajs to read', () => {
    expect(readBatches(batchOf(0, 1, Buffer.alloc(20), { magic: 1 }))).toBeNull();
  });

  test('property: bytes that are no records throw, and never come out as records of other lengths', () => {
    const records = [{ key: 'key', value: new Uint8Array(40) }];
    const body = encodeRecords(records);
    fc.assert(
      fc.property(fc.nat({ max: body.length - 1 }), (length) => {
        const batch = only(readBatches(batchOf(0, 1, body.subarray(0, length))));
        expect(() => decodeRecords(0, batch, batch.body)).toThrow('damaged');
      }),
    );
  });
});
