import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { murmur2, partitionOf } from './partitioner.ts';

const utf8 = (text: string) => new TextEncoder().encode(text);

describe('partitioner', () => {
  // The vectors of Kafka's own UtilsTest.testMurmur2.
  test.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])('murmur2 of %p is that of Kafka', (text, hash) => {
    expect(murmur2(utf8(text))).toBe(hash);
  });

  test('the partition is the hash without its sign bit, over the UTF-8 bytes of the key', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 600 }),
        fc.integer({ min: 1, max: 1000 }),
        (key, partitions) => {
          expect(partitionOf(key, partitions)).toBe((murmur2(utf8(key)) & 0x7fffffff) % partitions);
        },
      ),
    );
  });

  test('UUIDs spread evenly', () => {
    const counts = [0, 0, 0];
    for (let i = 0; i < 9000; i++) {
      const partition = partitionOf(crypto.randomUUID(), 3);
      counts[partition] = (counts[partition] ?? 0) + 1;
    }
    for (const count of counts) expect(count).toBeWithin(2600, 3400);
  });
});
