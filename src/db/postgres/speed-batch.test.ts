import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { countWindows, foldPins, type SpeedPin } from './speed-batch.ts';

const pin = (given: Partial<SpeedPin>): SpeedPin => ({
  uniqueId: '00000000-0000-4000-8000-000000000000',
  receivedAtMicros: 0,
  category: 'art',
  indexNo: 1,
  title: 'a title',
  description: 'a description',
  followerCount: 1n,
  tagList: ['a'],
  isImageOrVideo: 'image',
  imageSrc: 'https://example.org/1.jpg',
  downloaded: 1,
  saveLocation: '/data/art',
  posterName: null,
  source: null,
  isError: false,
  errorFields: [],
  position: { partition: 0, offset: 0 },
  writeTimestamp: 0,
  ...given,
});

const anyPin = fc
  .record({
    uniqueId: fc.constantFrom('a', 'b', 'c'),
    receivedAtMicros: fc.integer({ min: 0, max: 300_000_000 }),
    category: fc.constantFrom(null, '', 'art', 'x'.repeat(300)),
    errorFields: fc.uniqueArray(fc.constantFrom('title', 'category')),
    writeTimestamp: fc.integer({ min: 0, max: 3 }),
    offset: fc.integer({ min: 0, max: 9 }),
  })
  .map(({ offset, ...rest }) =>
    pin({ ...rest, isError: rest.errorFields.length > 0, position: { partition: 0, offset } }),
  );

describe('foldPins', () => {
  test('keeps of each id the version that the rest of the pins does not exceed', () => {
    fc.assert(
      fc.property(fc.array(anyPin), (pins) => {
        const rank = ({ writeTimestamp, position }: SpeedPin) => writeTimestamp * 100 + position.offset;
        const folded = foldPins(pins);
        expect(folded.map((p) => p.uniqueId).sort()).toEqual([...new Set(pins.map((p) => p.uniqueId))].sort());
        for (const kept of folded) {
          const versions = pins.filter((p) => p.uniqueId === kept.uniqueId);
          expect(rank(kept)).toBe(Math.max(...versions.map(rank)));
        }
      }),
    );
  });
});

describe('countWindows', () => {
  test('counts each record once for all, once if it has errors, and once for each field', () => {
    fc.assert(
      fc.property(fc.array(anyPin), (pins) => {
        const counts = countWindows(pins);
        const total = (field: string) => counts.reduce((sum, c) => sum + (c.field === field ? c.pins : 0), 0);
        expect(total('')).toBe(pins.length);
        expect(total('*')).toBe(pins.filter((p) => p.isError).length);
        expect(total('title')).toBe(pins.filter((p) => p.errorFields.includes('title')).length);
        const keys = counts.map((c) => `${c.slideMicros} ${c.category} ${c.field}`);
        expect(new Set(keys).size).toBe(keys.length);
      }),
    );
  });

  test('a slide is the minute in which the pin was received', () => {
    const at = (receivedAtMicros: number) => countWindows([pin({ receivedAtMicros })])[0]?.slideMicros;
    expect([0, 59_999_999, 60_000_000, -1].map(at)).toEqual([0, 0, 60_000_000, -60_000_000]);
  });

  test('no category counts as an empty one, and a long one is cut to fit the key, even within a surrogate pair', () => {
    const categoryOf = (category: string | null) => countWindows([pin({ category })])[0]?.category;
    expect(categoryOf(null)).toBe('');
    expect(categoryOf('c'.repeat(201))).toBe('c'.repeat(200));
    expect(categoryOf(`${'c'.repeat(199)}\u{1F4CC}`)).toBe(`${'c'.repeat(199)}\uFFFD`);
  });

  test('comes in one order whatever the order of the pins', () => {
    fc.assert(
      fc.property(fc.array(anyPin), (pins) => {
        expect(countWindows([...pins].reverse())).toEqual([...countWindows(pins)]);
      }),
    );
  });
});
