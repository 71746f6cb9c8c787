import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { pinRow } from './contract-rows.ts';
import { sizeOf } from './cql-rows.ts';
import { groupByReplicas } from './cql-writer.ts';

const byFirstByte = (nodes: number) => (key: Buffer) => `node ${(key[0] ?? 0) % nodes}`;

describe('batches by replica', () => {
  test('hold every row once, of one set of nodes, within 60 rows and 40 KiB', () => {
    const sizes = fc.array(fc.oneof(fc.nat(1000), fc.nat(40_000)), { maxLength: 200 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 4 }), (lengths, nodes) => {
        const rows = lengths.map((length) => pinRow({ description: 'x'.repeat(length) }));
        const groups = groupByReplicas(rows, byFirstByte(nodes));
        expect(new Set(groups.flat().map(({ row }) => row))).toEqual(new Set(rows));
        expect(groups.flat().length).toBe(rows.length);
        for (const group of groups) {
          expect(new Set(group.map(({ row }) => Number.parseInt(row.uniqueId.slice(0, 2), 16) % nodes)).size).toBe(1);
          expect(group.length).toBeLessThanOrEqual(60);
          const bytes = group.reduce((sum, { row }) => sum + sizeOf(row), 0);
          expect(group.length === 1 || bytes <= 40 * 1024).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('are full where rows are small, and none where the nodes are not known', () => {
    const rows = Array.from({ length: 120 }, () => pinRow());
    expect(groupByReplicas(rows, () => 'one').map((group) => group.length)).toEqual([57, 57, 6]);
    expect(groupByReplicas(rows, () => null).map((group) => group.length)).toEqual(Array(120).fill(1));
  });
});
