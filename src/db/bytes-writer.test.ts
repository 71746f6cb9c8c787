import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { createBytesWriter } from './bytes-writer.ts';

const int = (bytes: number, value: number | bigint) => {
  const buffer = Buffer.alloc(bytes);
  if (typeof value === 'bigint') buffer.writeBigInt64BE(value);
  else buffer.writeIntBE(value, 0, bytes);
  return buffer;
};
const text = (value: string) => Buffer.concat([int(4, Buffer.byteLength(value)), Buffer.from(value)]);

const anyText = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 100 }),
  fc.constantFrom('\0', 'é', '\ud800'),
);
const anyWrite = fc.oneof(
  fc.integer({ min: -0x80, max: 0x7f }).map((value) => ['int8', value, int(1, value)] as const),
  fc.integer({ min: -0x8000, max: 0x7fff }).map((value) => ['int16', value, int(2, value)] as const),
  fc.integer().map((value) => ['int32', value, int(4, value)] as const),
  fc.maxSafeInteger().map((value) => ['int64', value, int(8, BigInt(value))] as const),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => ['bigint64', value, int(8, value)] as const),
  fc.uint8Array().map((value) => ['raw', value, Buffer.from(value)] as const),
  fc.uuid().map((value) => ['uuid', value, Buffer.from(value.replaceAll('-', ''), 'hex')] as const),
  fc.uuid().map((value) => ['uuid', value.toUpperCase(), Buffer.from(value.replaceAll('-', ''), 'hex')] as const),
  anyText.map((value) => ['text', value, text(value)] as const),
);

test('property: what is written is what Buffer itself writes, however small the first guess', () => {
  fc.assert(
    fc.property(fc.array(anyWrite), fc.nat({ max: 64 }), (writes, capacity) => {
      const out = createBytesWriter(capacity);
      for (const [kind, value] of writes) (out[kind] as (value: unknown) => void)(value);
      const want = Buffer.concat(writes.map(([, , bytes]) => bytes));
      expect(out.written()).toEqual(want);
      expect(out.length()).toBe(want.length);
    }),
  );
});

test('what is sized has its length before it, also when the buffer grew meanwhile', () => {
  const out = createBytesWriter(0);
  out.sized((values: readonly string[]) => values.forEach(out.text), ['a', 'b'.repeat(1000)]);
  expect(out.written()).toEqual(Buffer.concat([int(4, 4 + 1 + 4 + 1000), text('a'), text('b'.repeat(1000))]));
});

test('what is cut is as if it had not been written', () => {
  const out = createBytesWriter(0);
  out.int32(1);
  const before = out.length();
  out.text('of a row that is refused');
  out.cut(before);
  out.int16(2);
  expect(out.written()).toEqual(Buffer.concat([int(4, 1), int(2, 2)]));
});
