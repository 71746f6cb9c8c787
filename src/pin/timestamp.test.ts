import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { formatMicros, parseMicros, STAMP_BYTES, writeMicros } from './timestamp.ts';

/** Exact microseconds reach from 1684 to 2255. */
const micros = fc.maxSafeInteger();

describe('formatMicros', () => {
  const cases: readonly (readonly [number, string])[] = [
    [0, '1970-01-01T00:00:00.000000Z'],
    [1, '1970-01-01T00:00:00.000001Z'],
    [123_456, '1970-01-01T00:00:00.123456Z'],
    [1_767_225_599_999_999, '2025-12-31T23:59:59.999999Z'],
    [1_767_225_600_000_000, '2026-01-01T00:00:00.000000Z'],
    [-1, '1969-12-31T23:59:59.999999Z'],
    [Number.MAX_SAFE_INTEGER, '2255-06-05T23:47:34.740991Z'],
  ];
  for (const [value, text] of cases) {
    test(text, () => {
      expect(formatMicros(value)).toBe(text);
      expect(parseMicros(text)).toBe(value);
    });
  }
});

describe('writeMicros', () => {
  test('property: writes what formatMicros gives, and nothing beside it', () => {
    const near = fc.integer({ min: -3_000_000, max: 3_000_000 });
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.array(near), fc.nat(5), (start, steps, at) => {
        for (const value of [start, ...steps.map((step) => 1_767_225_600_000_000 + step), start]) {
          const target = new Uint8Array(STAMP_BYTES + 5).fill(0x2e);
          writeMicros(target, at, value);
          expect(new TextDecoder().decode(target)).toBe(`${'.'.repeat(at)}${formatMicros(value)}${'.'.repeat(5 - at)}`);
        }
      }),
    );
  });
});

describe('parseMicros', () => {
  const read: readonly (readonly [string, number])[] = [
    ['2026-01-01T00:00:00Z', 1_767_225_600_000_000],
    ['2026-01-01T00:00:00.5Z', 1_767_225_600_500_000],
    ['2026-01-01T00:00:00.123Z', 1_767_225_600_123_000],
    ['2026-01-01T00:00:00.123456789Z', 1_767_225_600_123_456],
    ['2024-02-29T23:59:59Z', 1_709_251_199_000_000],
  ];
  for (const [text, want] of read) test(text, () => expect(parseMicros(text)).toBe(want));

  const refused: readonly unknown[] = [
    null,
    undefined,
    0,
    1_767_225_600_000_000,
    '',
    'now',
    '2026-01-01',
    '2026-01-01T00:00:00',
    '2026-01-01 00:00:00Z',
    '2026-01-01T00:00:00+00:00',
    '2026-01-01T00:00:00.Z',
    '2026-01-01T00:00:00.1234567890Z',
    '2026-02-29T00:00:00Z',
    '2026-02-30T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T25:00:00Z',
    '2026-01-01T00:60:00Z',
    '2026-01-01T00:00:60Z',
    '2300-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
    ' 2026-01-01T00:00:00Z',
    '2026-01-01T00:00:00Z\n',
  ];
  for (const text of refused) test(`refuses ${JSON.stringify(text)}`, () => expect(parseMicros(text)).toBeNull());

  test('within the second read last: other digits are read, what is no digit is refused', () => {
    const second = '2026-01-01T00:00:07.';
    expect(parseMicros(`${second}000001Z`)).toBe(1_767_225_607_000_001);
    expect(parseMicros(`${second}987654Z`)).toBe(1_767_225_607_987_654);
    for (const wrong of ['00000aZ', '000001z', '0000 1Z', '00000-Z', '0000/1Z', '0000:1Z', '0000001']) {
      expect(parseMicros(`${second}${wrong}`)).toBeNull();
    }
    expect(parseMicros('2255-06-05T23:47:34.740991Z')).toBe(Number.MAX_SAFE_INTEGER);
    expect(parseMicros('2255-06-05T23:47:34.740992Z')).toBeNull();
  });

  test('a wrong minute is refused again after a right one', () => {
    expect([
      parseMicros('2026-02-30T00:00:00Z'),
      parseMicros('2026-03-02T00:00:00Z'),
      parseMicros('2026-02-30T00:00:00Z'),
    ]).toEqual([null, 1_772_409_600_000_000, null]);
  });
});

test('property: parse is the inverse of format, whatever was asked for before', () => {
  fc.assert(
    fc.property(fc.array(micros, { minLength: 1, maxLength: 5 }), (values) => {
      expect(values.map(formatMicros).map(parseMicros)).toEqual(values);
    }),
  );
});

test('property: text order is time order', () => {
  fc.assert(
    fc.property(micros, micros, (a, b) => {
      expect(formatMicros(a) < formatMicros(b)).toBe(a < b);
    }),
  );
});

test('property: total for any text', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/)), (text) => {
      const value = parseMicros(text);
      expect(value === null || Number.isSafeInteger(value)).toBe(true);
      if (value !== null) expect(formatMicros(value).slice(0, 19)).toBe(text.slice(0, 19));
    }),
  );
});
