import { describe, expect, test } from 'bun:test';
import { count, duration, perSecond, time, valueText, visible } from './format.ts';

describe('text of strangers', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['a\u0000b', 'a␀b'],
    ['\u001b[2J', '␛[2J'],
    ['\u007f\u0085', '‹U+007F›‹U+0085›'],
    ['\u202edrowssap', '‹U+202E›drowssap'],
    ['zero\u200bwidth\ufeff', 'zero‹U+200B›width‹U+FEFF›'],
    ['lines\nand\ttabs stay', 'lines\nand\ttabs stay'],
    ['שלום 👩‍🚀 noël', 'שלום 👩‍🚀 noël'],
    ['<b>&amp;', '<b>&amp;'],
  ];
  for (const [given, shown] of cases) {
    test(`${JSON.stringify(given)} is shown as ${shown}`, () => expect(visible(given)).toBe(shown));
  }

  test('any value has a text', () => {
    expect([null, undefined, 0, false, ['a', '\u0000'], '9007199254740993'].map(valueText)).toEqual([
      '–',
      '–',
      '0',
      'false',
      '["a","\\u0000"]',
      '9007199254740993',
    ]);
  });
});

test('numbers are as long as they need to be', () => {
  expect([count(null), count(1234567)]).toEqual(['–', '1,234,567']);
  expect([null, 0, 0.25, 59.6, 12_345].map(perSecond)).toEqual(['–', '0', '0.25', '60', '12.3K']);
  expect([null, 0.00312, 0.25, 1.5, 60, 600].map(duration)).toEqual([
    '–',
    '3.12 ms',
    '250 ms',
    '1.5 s',
    '60 s',
    '10 min',
  ]);
  expect(time('no time')).toBe('–');
});
