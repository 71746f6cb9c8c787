import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { encodeRecords } from './kafka-encoding.ts';
import type { NewRecord } from './log.ts';
import { anyRecord } from './record.fixture.ts';

/** Reads what the specification says, field by field (https://kafka.apache.org/documentation/#record). */
const reader = (bytes: Uint8Array) => {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  };
  const take = (length: number): Uint8Array => {
    at += length;
    return bytes.slice(at - length, at);
  };
  const text = () => new TextDecoder('utf-8', { ignoreBOM: true }).decode(take(varint()));
  return { varint, take, text, at: () => at };
};

const decode = (bytes: Uint8Array) => {
  const { varint, take, text, at } = reader(bytes);
  const records: (NewRecord & { readonly offsetDelta: number })[] = [];
  while (at() < bytes.length) {
    const length = varint();
    const end = at() + length;
    expect([...take(1)]).toEqual([0]);
    expect(varint()).toBe(0);
    const offsetDelta = varint();
    const key = text();
    const value = take(varint());
    const headers = Object.fromEntries(Array.from({ length: varint() }, () => [text(), text()]));
    expect(at()).toBe(end);
    records.push({ offsetDelta, key, value, headers });
  }
  return records;
};

test('property: records are encoded as the message format says', () => {
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 150 }), (records) => {
      expect(decode(encodeRecords(records))).toEqual(
        records.map(({ key, value, headers = {} }, offsetDelta) => ({
          offsetDelta,
          key,
          value: new Uint8Array(value),
          headers: { ...headers },
        })),
      );
    }),
    { numRuns: 200 },
  );
});
