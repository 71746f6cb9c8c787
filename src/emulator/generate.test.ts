import { describe, expect, test } from 'bun:test';
import { cleanPin, PLACEHOLDERS } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { isPin, type Pin } from '../pin/pin.ts';
import { type GenerateOptions, generatePins } from './generate.ts';

/** The seed test/fixtures/pins.ndjson was made with. */
const FIXTURE_SEED = 20_260_101;
const PINS = 2000;

const fixture = await Bun.file(new URL('../../test/fixtures/pins.ndjson', import.meta.url)).text();

const take = (options: GenerateOptions, count = PINS): readonly Pin[] => {
  const pins = generatePins(options);
  return Array.from({ length: count }, () => pins.next().value);
};

const errorFieldsOf = (pin: Pin): readonly string[] => {
  const decoded = decodeRecord(JSON.stringify(pin), 0);
  return decoded.ok ? cleanPin(decoded.value).errorFields : ['not a pin'];
};

test('the fixture is what its seed gives', () => {
  const text = take({ seed: FIXTURE_SEED }).map((pin) => `${JSON.stringify(pin)}\n`);
  expect(text.join('') === fixture).toBe(true);
});

describe('generatePins', () => {
  const pins = take({ seed: 1 });

  test('all are pins, each with an id of its own', () => {
    expect(pins.filter((pin) => !isPin(pin))).toEqual([]);
    expect(new Set(pins.map((pin) => pin.unique_id)).size).toBe(PINS);
  });

  test('seeds next to each other share no id', () => {
    const ids = [1, 2, 3].flatMap((seed) => take({ seed }).map((pin) => pin.unique_id));
    expect(new Set(ids).size).toBe(3 * PINS);
  });

  test('about the share of them has errors that was asked for', () => {
    for (const errorRate of [0, 0.12, 0.5, 1]) {
      const share = take({ seed: 2, errorRate }).filter((pin) => errorFieldsOf(pin).length > 0).length / PINS;
      expect(Math.abs(share - errorRate)).toBeLessThan(0.05);
      if (errorRate === 0 || errorRate === 1) expect(share).toBe(errorRate);
    }
  });

  test('every placeholder of the scraper turns up', () => {
    const seen = new Set(pins.flatMap((pin) => Object.entries(pin).map(([field, value]) => `${field} ${value}`)));
    const wanted = Object.entries(PLACEHOLDERS).flatMap(([field, texts]) => texts.map((text) => `${field} ${text}`));
    // The 11 fields have no poster name.
    expect(wanted.filter((placeholder) => !seen.has(placeholder))).toEqual(['poster_name User Info Error']);
  });

  test('follower counts come in every spelling', () => {
    const spellings = pins.map((pin) => pin.follower_count?.replace(/\d+/g, '0'));
    expect([...new Set(spellings)].toSorted()).toEqual(['0', '0,0', '0.0k', '0B', '0M', '0k', 'User Info Error']);
  });
});
