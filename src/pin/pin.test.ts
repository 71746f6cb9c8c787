import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { isPin, PIN_FIELDS, type Pin, pinSchema, writeTimestamp } from './pin.ts';

const seedPin: Pin = await Bun.file(new URL('../../test/fixtures/seed-pin.json', import.meta.url)).json();

const id = seedPin.unique_id;

test("the seed's own pin has the 11 fields, in this order", () => {
  expect(Object.keys(seedPin)).toEqual([...PIN_FIELDS]);
  expect(Object.keys(pinSchema.shape)).toEqual([...PIN_FIELDS]);
});

describe('what is a pin', () => {
  const cases: readonly (readonly [string, unknown, boolean])[] = [
    ["the seed's", seedPin, true],
    ['with unknown fields', { ...seedPin, extra: { deep: [1] }, poster_name: 5 }, true],
    [
      'all text null',
      Object.fromEntries(
        Object.entries(seedPin).map(([k, v]) => [k, typeof v === 'string' && k !== 'unique_id' ? null : v]),
      ),
      true,
    ],
    [
      'all text empty',
      Object.fromEntries(
        Object.entries(seedPin).map(([k, v]) => [k, typeof v === 'string' && k !== 'unique_id' ? '' : v]),
      ),
      true,
    ],
    ['upper-case id', { ...seedPin, unique_id: id.toUpperCase() }, true],
    ['nil id', { ...seedPin, unique_id: '00000000-0000-0000-0000-000000000000' }, true],
    ['id of no version', { ...seedPin, unique_id: 'ffffffff-ffff-ffff-ffff-ffffffffffff' }, true],
    ['id in braces', { ...seedPin, unique_id: `{${id}}` }, false],
    ['id without hyphens', { ...seedPin, unique_id: id.replaceAll('-', '') }, false],
    ['id with a hyphen for a digit', { ...seedPin, unique_id: `-${id.slice(1)}` }, false],
    ['id with a letter past f', { ...seedPin, unique_id: `g${id.slice(1)}` }, false],
    ['id with a letter that is not ASCII', { ...seedPin, unique_id: `０${id.slice(1)}` }, false],
    ['id and a line break', { ...seedPin, unique_id: `${id}\n` }, false],
    ['id null', { ...seedPin, unique_id: null }, false],
    ['index largest', { ...seedPin, index: 2_147_483_647 }, true],
    ['index smallest', { ...seedPin, index: -2_147_483_648 }, true],
    ['index -0', { ...seedPin, index: -0 }, true],
    ['index too large', { ...seedPin, index: 2_147_483_648 }, false],
    ['index too small', { ...seedPin, index: -2_147_483_649 }, false],
    ['index a fraction', { ...seedPin, index: 1.5 }, false],
    ['index infinite', { ...seedPin, index: Number.POSITIVE_INFINITY }, false],
    ['index text', { ...seedPin, index: '7528' }, false],
    ['index null', { ...seedPin, index: null }, false],
    ['downloaded true', { ...seedPin, downloaded: true }, false],
    ['title a number', { ...seedPin, title: 5 }, false],
    ['title an object', { ...seedPin, title: {} }, false],
    ...PIN_FIELDS.map((field) => [`without ${field}`, { ...seedPin, [field]: undefined }, false] as const),
    ['null', null, false],
    ['an array', [], false],
    ['an array with the fields', Object.assign([], seedPin), false],
    ['text', 'pin', false],
    ['a number', 5, false],
    ['empty', {}, false],
    ['undefined', undefined, false],
  ];
  for (const [name, value, want] of cases) {
    test(`${name}: ${want ? 'yes' : 'no'}`, () => {
      expect(isPin(value)).toBe(want);
      expect(pinSchema.safeParse(value).success).toBe(want);
    });
  }

  const anything = fc.oneof(
    { weight: 1, arbitrary: fc.jsonValue() },
    { weight: 1, arbitrary: fc.constantFrom(undefined, '', true, 1.5, -1, 2 ** 31, Number.POSITIVE_INFINITY, []) },
  );
  const nearlyPin = fc
    .tuple(
      fc.dictionary(fc.constantFrom(...PIN_FIELDS), anything, { maxKeys: 2 }),
      fc.array(fc.constantFrom(...PIN_FIELDS), { maxLength: 1 }),
    )
    .map(([changes, missing]) => {
      const pin: Record<string, unknown> = { ...seedPin, ...changes };
      for (const field of missing) delete pin[field];
      return pin;
    });
  const nearlyUuid = fc.oneof(
    fc.uuid(),
    fc.stringMatching(/^[0-9a-fA-F-]{36}$/),
    fc.stringMatching(/^[0-9a-g]{8}(-[0-9A-F]{4}){3}-.{12}$/),
  );

  test('property: the fast check and the schema agree', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          anything,
          nearlyPin,
          nearlyUuid.map((unique_id) => ({ ...seedPin, unique_id })),
        ),
        (value) => {
          expect(isPin(value)).toBe(pinSchema.safeParse(value).success);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

describe('writeTimestamp', () => {
  test('a stamp with microseconds stands as it is', () =>
    expect(writeTimestamp(1_767_225_600_000_001, 42)).toBe(1_767_225_600_000_001));

  test('property: whole milliseconds are ordered by offset, and never pass into the next millisecond', () => {
    fc.assert(
      fc.property(fc.nat({ max: 9_000_000_000_000 }), fc.maxSafeNat(), (millis, offset) => {
        const first = writeTimestamp(millis * 1000, offset);
        expect(Math.floor(first / 1000)).toBe(millis);
        if (offset % 1000 !== 999) expect(writeTimestamp(millis * 1000, offset + 1)).toBe(first + 1);
      }),
    );
  });
});
