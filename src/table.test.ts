import { describe, expect, test } from 'bun:test';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { printRows } from './table.ts';

const one = (value: unknown) => ({ columns: ['v'], rows: [[value]] });

describe('json', () => {
  const cases: readonly (readonly [string, unknown, unknown])[] = [
    ['a bigint that is exact as a number', 893_000n, 893_000],
    ['the largest such', 9_007_199_254_740_991n, 9_007_199_254_740_991],
    ['a bigint that is not', 9_007_199_254_740_993n, '9007199254740993'],
    ['a negative one', -9_223_372_036_854_775_808n, '-9223372036854775808'],
    ['a date', new Date(1_767_225_600_123), '2026-01-01T00:00:00.123Z'],
    ['a date that is none', new Date(Number.NaN), null],
    ['bytes', Uint8Array.of(1, 2, 255), 'AQL/'],
    ['a list', ['a', 5n, null], ['a', 5, null]],
    ['an object', { n: 5n, at: new Date(0) }, { n: 5, at: '1970-01-01T00:00:00.000Z' }],
    ['true', true, true],
    ['null', null, null],
    ['undefined', undefined, null],
    ['text', 'é "quoted"\n', 'é "quoted"\n'],
  ];
  for (const [name, value, want] of cases) {
    test(name, () => expect(JSON.parse(printRows(one(value), 'json'))).toEqual([{ v: want }]));
  }

  test('no rows are an empty array', () => expect(printRows({ columns: ['a'], rows: [] }, 'json')).toBe('[]'));

  test('columns of one name are told apart', () => {
    const text = printRows({ columns: ['n', 'n', 'm', 'n'], rows: [[1, 2, 3, 4]] }, 'json');
    expect(JSON.parse(text)).toEqual([{ n: 1, n_2: 2, m: 3, n_3: 4 }]);
  });

  test('a row shorter than the columns has nulls', () => {
    expect(JSON.parse(printRows({ columns: ['a', 'b'], rows: [[1]] }, 'json'))).toEqual([{ a: 1, b: null }]);
  });
});

describe('csv', () => {
  test('a header, quotes where needed, nothing for null', () => {
    const rows = [
      ['plain', 1n, null],
      ['comma, "quote"', 2.5, true],
      ['line\nbreak', new Date(0), ['a', 'b']],
    ];
    expect(printRows({ columns: ['text', 'n', 'x'], rows }, 'csv')).toBe(
      [
        'text,n,x',
        'plain,1,',
        '"comma, ""quote""",2.5,true',
        '"line\nbreak",1970-01-01T00:00:00.000Z,"[""a"",""b""]"',
      ].join('\n'),
    );
  });

  test('no rows are the header alone', () => expect(printRows({ columns: ['a', 'b'], rows: [] }, 'csv')).toBe('a,b'));

  test('property: a CSV reader gets the same texts back', () => {
    const rows = fc.array(
      fc.tuple(fc.constant('id'), fc.string({ unit: 'binary' }), fc.constantFrom('', '\r', ' \n', '"', 'x')),
      { minLength: 1 },
    );
    fc.assert(
      fc.property(rows, (texts) => {
        const csv = printRows({ columns: ['id', 'a', 'b'], rows: texts }, 'csv');
        expect(parse(csv, { from_line: 2, record_delimiter: '\n' })).toEqual(texts.map((row) => [...row]));
      }),
    );
  });
});

describe('table', () => {
  test('columns and values stand in a box', () => {
    expect(
      printRows(
        {
          columns: ['category', 'pins'],
          rows: [
            ['tattoos', 3n],
            ['art', null],
          ],
        },
        'table',
      ),
    ).toBe(
      [
        '┌──────────┬──────┐',
        '│ category │ pins │',
        '├──────────┼──────┤',
        '│ tattoos  │ 3    │',
        '│ art      │      │',
        '└──────────┴──────┘',
      ].join('\n'),
    );
  });

  test('control characters of a pin do not reach the terminal', () => {
    const text = printRows(one('a\u001b[31mred\u0007\nnext\u009b2J'), 'table');
    expect(text).toContain('a\\x1b[31mred\\x07\\x0anext\\x9b2J');
    expect(text.split('\n')).toHaveLength(5);
  });

  test('a long text is cut, between whole characters', () => {
    expect(printRows(one('🌞'.repeat(200)), 'table')).toContain(`│ ${'🌞'.repeat(79)}… │`);
    expect(printRows(one('x'.repeat(80)), 'table')).toContain('x'.repeat(80));
  });
});
