import { expect, test } from 'bun:test';
import { types } from 'cassandra-driver';
import Encoder from 'cassandra-driver/lib/encoder';
import { ExecutionOptions } from 'cassandra-driver/lib/execution-options';
import { BatchRequest, ExecuteRequest } from 'cassandra-driver/lib/requests';
import fc from 'fast-check';
import { pinRow } from './contract-rows.ts';
import type { CqlType } from './cql-encoding.ts';
import { insertsOf } from './cql-inserts.ts';
import { toParams } from './cql-params.fixture.ts';
import { COLUMNS } from './cql-rows.ts';
import type { PinRow } from './pin-store.ts';

const { dataTypes } = types;
const TYPES = {
  uuid: { code: dataTypes.uuid },
  timestamp: { code: dataTypes.timestamp },
  bigint: { code: dataTypes.bigint },
  int: { code: dataTypes.int },
  text: { code: dataTypes.varchar },
  boolean: { code: dataTypes.boolean },
  'frozen<list<text>>': { code: dataTypes.list, info: { code: dataTypes.varchar } },
} as const satisfies Readonly<Record<CqlType, unknown>>;

/** As the server answers about the statement. */
const meta = {
  columns: [...Object.values(COLUMNS).map(({ type }) => type), 'int', 'bigint'].map((type) => ({
    type: TYPES[type as CqlType],
  })),
};
const encoder = new Encoder(4, { encoding: { useBigIntAsLong: true } });
const options = Object.assign(ExecutionOptions.empty(), { getConsistency: () => types.consistencies.localQuorum });
const queryId = Buffer.from('0123456789abcdef');

const paramsOf = (rows: readonly PinRow[], generation: number) =>
  insertsOf(rows, generation).inserts.map(({ params }) => params);

const batchOf = (all: readonly (readonly unknown[])[]): Buffer =>
  new BatchRequest(
    all.map((params) => ({ queryId, params, meta })),
    options,
  ).write(encoder, 7);
const insertOf = (params: readonly unknown[]): Buffer =>
  new ExecuteRequest('', queryId, params, options, meta).write(encoder, 7);

const text = fc.oneof(
  { arbitrary: fc.string(), weight: 8 },
  { arbitrary: fc.string({ unit: 'binary' }), weight: 8 },
  // Any UTF-16, with halves of pairs alone.
  { arbitrary: fc.array(fc.nat(0xffff)).map((units) => String.fromCharCode(...units)), weight: 8 },
  // More than what is left of a buffer, and more than a whole one.
  { arbitrary: fc.constantFrom('é'.repeat(20_000), '東'.repeat(30_000)), weight: 1 },
);
const int = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const stamp = fc.oneof(
  fc.maxSafeInteger(),
  fc.constantFrom(-1, 0, 2 ** 32 - 1, 2 ** 32, -(2 ** 32), Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER),
);
const row: fc.Arbitrary<PinRow> = fc.record({
  uniqueId: fc.oneof(
    fc.uuid(),
    fc.uuid().map((id) => id.toUpperCase()),
  ),
  receivedAtMicros: stamp,
  category: fc.option(text),
  indexNo: int,
  title: fc.option(text),
  description: fc.option(text),
  followerCount: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  tagList: fc.option(fc.array(text)),
  isImageOrVideo: fc.option(text),
  imageSrc: fc.option(text),
  downloaded: int,
  saveLocation: fc.option(text),
  posterName: fc.option(text),
  isError: fc.boolean(),
  errorFields: fc.array(text),
  writeTimestamp: stamp,
  position: fc.record({ partition: int, offset: stamp }),
});

test('property: rows go out as the driver encodes them, in batches and alone', () => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 10 }), int, (rows, generation) => {
      const ours = paramsOf(rows, generation);
      const drivers = rows.map((each) => toParams(each, generation));
      expect(batchOf(ours).equals(batchOf(drivers))).toBe(true);
      expect(insertOf(ours[0] ?? []).equals(insertOf(drivers[0] ?? []))).toBe(true);
      // Sent again after a failure.
      expect(batchOf(ours).equals(batchOf(drivers))).toBe(true);
      for (const [i, values] of ours.entries()) {
        expect(values).toHaveLength(meta.columns.length);
        expect(new types.Uuid(values[0] as Buffer).equals(drivers[i]?.[0] as types.Uuid)).toBe(true);
      }
    }),
    { numRuns: 100 },
  );
});

test('other values, beside them and in a statement of their own, are left to the driver', () => {
  const row = pinRow();
  const [drivers, [ours = []]] = [toParams(row, 0), paramsOf([row], 0)];
  const others = [Buffer.alloc(16), types.unset, null, undefined];
  expect(batchOf([drivers, ours, others]).equals(batchOf([drivers, drivers, others]))).toBe(true);
});

test.each<[string, Partial<PinRow>, ErrorConstructor]>([
  ['an id that is none', { uniqueId: 'no' }, TypeError],
  ['an id of other characters', { uniqueId: 'z'.repeat(36) }, TypeError],
  ['an integer of 33 bits', { indexNo: 2 ** 31 }, RangeError],
  ['no number', { downloaded: Number.NaN }, RangeError],
  ['half a microsecond', { receivedAtMicros: 0.5 }, RangeError],
  ['an integer of 65 bits', { followerCount: 2n ** 63n }, RangeError],
])('refuses %s, and goes on with the next row', (_, given, error) => {
  const [bad, next] = [pinRow(given), pinRow()];
  const { inserts, refusals } = insertsOf([bad, next], 0);
  expect(refusals).toEqual([{ uniqueId: bad.uniqueId, error: expect.any(error) }]);
  expect(inserts.map(({ uniqueId }) => uniqueId)).toEqual([next.uniqueId]);
  expect(insertOf(inserts[0]?.params ?? []).equals(insertOf(toParams(next, 0)))).toBe(true);
});
