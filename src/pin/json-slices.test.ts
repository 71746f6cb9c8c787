import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { jsonSlices, memberName } from './json-slices.ts';

describe('jsonSlices', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['[]', []],
    [' { } ', []],
    ['[1, 12345678901234567890 ,1e400]', ['1', '12345678901234567890', '1e400']],
    ['{"a":[1,2],"b":{"c":",]}"}}', ['"a":[1,2]', '"b":{"c":",]}"}']],
    ['["\\"", "\\\\", "[{,"]', ['"\\""', '"\\\\"', '"[{,"']],
    ['\n[\n{"a": 1}\n,\n{"a": 2, "a": 3}\n]\n', ['{"a": 1}', '{"a": 2, "a": 3}']],
  ];
  for (const [text, slices] of cases) test(text, () => expect(jsonSlices(text)).toEqual(slices));

  test('property: the slices of any array parse to its elements', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), fc.integer({ min: 0, max: 3 }), (values, indent) => {
        const text = JSON.stringify(values, null, indent);
        expect(jsonSlices(text).map((slice) => JSON.parse(slice))).toEqual(JSON.parse(text));
      }),
    );
  });

  test('property: the slices of any object are its members, by name', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        expect(jsonSlices(JSON.stringify(value)).map(memberName)).toEqual(Object.keys(value));
      }),
    );
  });

  test('100,000 nested brackets are one slice, without recursion', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    expect(jsonSlices(`[${deep},1]`)).toEqual([deep, '1']);
  });
});
