import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { pinRow } from './contract-rows.ts';
import { insertsOf } from './cql-inserts.ts';
import { groupByReplicas } from './cql-writer.ts';

const byFirstByte = (nodes: number) => (key: Buffer) => `node ${(key[0] ?? 0) % nodes}`;

describe('batches by replica', () => {
  test('hold every row once, of one set of nodes, within 60 rows and 40 KiB', () => {
    const sizes = fc.array(fc.oneof(fc.nat(1000), fc.nat(40_000)), { maxLength: 200 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 4 }), (lengths, nodes) => {
        const { inserts } = insertsOf(
          lengths.map((length) => pinRow({ description: 'x'.repeat(length) })),
          0,
        );
        const groups = groupByReplicas(inserts, byFirstByte(nodes));
        expect(new Set(groups.flat())).toEqual(new Set(inserts));
        expect(groups.flat().length).toBe(lengths.length);
        for (const group of groups) {
          expect(new Set(group.map(({ uniqueId }) => Number.parseInt(uniqueId.slice(0, 2), 16) % nodes)).size).toBe(1);
          expect(group.length).toBeLessThanOrEqual(60);
          const bytes = group.reduce((sum, insert) => sum + insert.bytes, 0);
          expect(group.length === 1 || bytes <= 40 * 1024).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('are full where rows are small, and none where the nodes are not known', () => {
    const { inserts } = insertsOf(
      Array.from({ length: 120 }, () => pinRow()),
      0,
    );
    expect(groupByReplicas(inserts, () => 'one').map((group) => group.length)).toEqual([58, 58, 4]);
    expect(groupByReplicas(inserts, () => null).map((group) => group.length)).toEqual(Array(120).fill(1));
  });
});
