import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { cleanPin } from './clean.ts';
import { acceptParsedPin, acceptPin, decodeLines, decodeRecord, decodeUtf8, type Reject } from './decode.ts';
import { PIN_FIELDS, type Pin } from './pin.ts';
import { formatMicros } from './timestamp.ts';

const AT = 1_767_225_600_000_001;
const STAMP = '2026-01-01T00:00:00.000001Z';

const seedText = (await Bun.file(new URL('../../test/fixtures/seed-pin.json', import.meta.url)).text()).trim();
const seedPin: Pin = JSON.parse(seedText);
const fixture = (await Bun.file(new URL('../../test/fixtures/pins.ndjson', import.meta.url)).text())
  .trimEnd()
  .split('\n');

/** The seed's pin with more members, as text, so that the spelling is the test's own. */
const seedWith = (members: string): string => `${seedText.slice(0, -1)},${members}}`;

const encoder = new TextEncoder();
const acceptText = (text: string, at = AT) => acceptPin(encoder.encode(text), at);

const lineOf = (text: string, at = AT): string => {
  const accepted = acceptText(text, at);
  if (!accepted.ok) throw new Error(accepted.reject.reason);
  return new TextDecoder().decode(accepted.value.line);
};

const rejectOf = (result: { readonly ok: boolean }): Reject => {
  expect(result.ok).toBe(false);
  return (result as unknown as { reject: Reject }).reject;
};

const anyText = fc.option(fc.oneof(fc.string({ unit: 'binary' }), fc.string()));
const anyPin: fc.Arbitrary<Pin> = fc.record({
  category: anyText,
  index: fc.integer(),
  unique_id: fc.uuid(),
  title: anyText,
  description: anyText,
  follower_count: anyText,
  tag_list: anyText,
  is_image_or_video: anyText,
  image_src: anyText,
  downloaded: fc.integer(),
  save_location: anyText,
});
const unknownName = fc.string().filter((name) => ![...PIN_FIELDS, 'received_at', 'poster_name'].includes(name));

describe('acceptPin', () => {
  test('the line is what was sent, and the stamp', () => {
    const accepted = acceptText(seedText);
    expect(accepted.ok && accepted.value.uniqueId).toBe(seedPin.unique_id);
    expect(lineOf(seedText)).toBe(`${seedText.slice(0, -1)},"received_at":"${STAMP}"}`);
  });

  const spellings = [
    '"big":12345678901234567890',
    '"huge":1e400',
    '"zero":-0',
    '"one":1.0E+0',
    '"escapes":"\\u0041\\/\\ud83c\\udf1e\\ud800\\u0000\\n"',
    '"nested":{"received_at":"theirs","list":[1 , 2,{}]}',
    '"brace":"}{][,"',
    '"__proto__":{"title":5}',
    '"":""',
    '"twice":1,"twice":2',
  ];
  for (const member of spellings) {
    test(`keeps byte for byte: ${member}`, () => {
      const sent = seedWith(member);
      expect(lineOf(sent)).toBe(`${sent.slice(0, -1)},"received_at":"${STAMP}"}`);
    });
    test(`also where the sender has a received_at: ${member}`, () => {
      const sent = seedWith(`"received_at":"2001-01-01T00:00:00Z",${member}`);
      const line = lineOf(sent);
      expect(line).toContain(member);
      expect(line).not.toContain('2001');
      expect(JSON.parse(line).received_at).toBe(STAMP);
    });
  }

  const theirs = ['null', '5', '{"a":[1,","]}', '"\\"}"', `"${STAMP}"`];
  for (const value of theirs) {
    test(`a received_at of the sender's is replaced: ${value}`, () => {
      const want = { ...seedPin, received_at: STAMP };
      expect(JSON.parse(lineOf(seedWith(`"received_at":${value}`)))).toEqual(want);
      expect(JSON.parse(lineOf(`{"received_at": ${value} ,${seedText.slice(1)}`))).toEqual(want);
      expect(lineOf(seedWith(`"received_at":${value},"received_at":1`)).match(/received_at/g)).toHaveLength(1);
      expect(lineOf(seedWith(`"received\\u005fat":${value}`)).match(/received/g)).toHaveLength(1);
    });
  }

  test('pretty-printed text becomes one line of the same pin', () => {
    const line = lineOf(`\r\n${JSON.stringify(seedPin, null, '\t').replaceAll('\n', '\r\n')}\n\n`);
    expect(line).not.toMatch(/[\r\n]/);
    expect(JSON.parse(line)).toEqual({ ...seedPin, received_at: STAMP });
  });

  test('an upper-case id is the same identity; the line keeps its spelling', () => {
    const sent = seedText.replace(seedPin.unique_id, seedPin.unique_id.toUpperCase());
    const accepted = acceptText(sent);
    expect(accepted.ok && accepted.value.uniqueId).toBe(seedPin.unique_id);
    expect(lineOf(sent)).toContain(seedPin.unique_id.toUpperCase());
    const decoded = decodeRecord(lineOf(sent), 0);
    expect(decoded.ok && decoded.value.unique_id).toBe(seedPin.unique_id);
  });

  test('a field very deeply nested travels along, with and without a received_at of the sender', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    for (const members of [`"deep":${deep}`, `"received_at":1,"deep":${deep}`]) {
      const line = lineOf(seedWith(members));
      expect(line).toContain(deep);
      expect(decodeRecord(line, 0).ok).toBe(true);
    }
  });

  test('a byte order mark before the pin is left out', () => {
    expect(lineOf(`\uFEFF${seedText}`)).toBe(lineOf(seedText));
  });

  test('bytes that are no UTF-8 are rejected', () => {
    expect(rejectOf(acceptPin(Uint8Array.of(0x7b, 0xff, 0x7d), AT))).toMatchObject({
      code: 'malformed_json',
      reason: 'the body is not UTF-8',
    });
  });

  test('bytes are judged as their text is, whatever stands where in them', () => {
    const inserted = fc.oneof(
      fc.string({ unit: 'binary' }).map((s) => encoder.encode(s)),
      fc.uint8Array({ maxLength: 3 }),
    );
    // Taken for white space by some parsers: no-break space, next line, line separator, byte order mark.
    const spaces = ['\u00a0', '\u0085', '\u2028', '\ufeff'].map((s) => encoder.encode(s));
    fc.assert(
      fc.property(anyPin, fc.nat(), fc.oneof(inserted, fc.constantFrom(...spaces)), (pin, at, bytes) => {
        const json = encoder.encode(JSON.stringify(pin));
        const place = at % (json.length + 1);
        const sent = Buffer.concat([json.subarray(0, place), bytes, json.subarray(place)]);
        const text = decodeUtf8(sent);
        let value: unknown;
        try {
          value = JSON.parse(text ?? '');
        } catch {
          expect(acceptPin(sent, AT).ok).toBe(false);
          return;
        }
        expect(acceptPin(sent, AT)).toEqual(acceptParsedPin(value, text ?? '', AT));
      }),
      { numRuns: 2000 },
    );
  });

  test('text is a parsed value and its text in one', () => {
    const { index: _, ...without } = seedPin;
    expect(acceptParsedPin(seedPin, seedText, AT)).toEqual(acceptText(seedText));
    expect(acceptParsedPin(without, JSON.stringify(without), AT)).toEqual(acceptText(JSON.stringify(without)));
  });

  const notJson = [
    '',
    ' ',
    '{',
    `${seedText},`,
    `${seedText}${seedText}`,
    "{'a':1}",
    'NaN',
    '{"a":"\n"}',
    '\u0000',
    '{"a":01}',
  ];
  for (const text of notJson) {
    test(`is not JSON: ${JSON.stringify(text).slice(0, 40)}`, () => {
      const reject = rejectOf(acceptText(text));
      expect(reject.code).toBe('malformed_json');
      expect(reject.reason).toStartWith('the body is not JSON: ');
      expect(reject.issues).toEqual([{ field: '$', message: reject.reason }]);
    });
  }

  for (const text of ['null', '[]', `[${seedText}]`, '"pin"', '5', 'true']) {
    test(`is JSON and no pin: ${text.slice(0, 20)}`, () => {
      expect(rejectOf(acceptText(text))).toEqual({
        code: 'invalid_pin',
        reason: '$ should be a JSON object with the fields of a pin',
        issues: [{ field: '$', message: 'should be a JSON object with the fields of a pin' }],
      });
    });
  }

  test('every wrong field is named, with what it should be', () => {
    const { title: _, ...rest } = seedPin;
    expect(rejectOf(acceptText(JSON.stringify({ ...rest, index: '7', unique_id: 'x', category: 5 })))).toEqual({
      code: 'invalid_pin',
      reason:
        'category should be a string or null; index should be an integer from -2147483648 to 2147483647; ' +
        'unique_id should be a UUID such as "0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35"; title is missing; it should be a string or null',
      issues: [
        { field: 'category', message: 'should be a string or null' },
        { field: 'index', message: 'should be an integer from -2147483648 to 2147483647' },
        { field: 'unique_id', message: 'should be a UUID such as "0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35"' },
        { field: 'title', message: 'is missing; it should be a string or null' },
      ],
    });
  });

  for (const index of ['1.5', '2147483648', '-2147483649', '1e400', '1e10']) {
    test(`index ${index} is refused once, in words that fit`, () => {
      const { issues } = rejectOf(acceptText(seedText.replace('"index":7528', `"index":${index}`)));
      expect(issues).toEqual([{ field: 'index', message: 'should be an integer from -2147483648 to 2147483647' }]);
    });
  }

  test('property: any text at all is accepted or rejected, never thrown over', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), (text) => {
        expect(rejectOf(acceptText(text)).issues.length).toBeGreaterThan(0);
      }),
    );
  });

  test('property: whatever is sent around the 11 fields comes out as it went in, on one line', () => {
    const members = fc.uniqueArray(fc.tuple(unknownName, fc.jsonValue()), { selector: ([name]) => name, maxLength: 5 });
    fc.assert(
      fc.property(
        anyPin,
        members,
        fc.constantFrom(undefined, 1, '\t', '\r\n  '),
        fc.boolean(),
        (pin, more, indent, stamped) => {
          const sent = { ...Object.fromEntries(more), ...pin, ...(stamped ? { received_at: 'theirs' } : {}) };
          const line = lineOf(JSON.stringify(sent, null, indent));
          expect(line).not.toMatch(/[\r\n]/);
          expect(JSON.parse(line)).toEqual(JSON.parse(JSON.stringify({ ...sent, received_at: STAMP })));
        },
      ),
    );
  });
});

describe('decodeRecord', () => {
  test('what the edge accepted', () => {
    expect(decodeRecord(new TextEncoder().encode(lineOf(seedText)), 5)).toEqual({
      ok: true,
      value: { ...seedPin, receivedAtMicros: AT, posterName: undefined, isStorable: true },
    });
  });

  const stamps: readonly (readonly [string, string, number, number])[] = [
    ["no received_at takes the log's time", '"x":1', 1_767_225_600_123, 1_767_225_600_123_000],
    ['an unreadable one too', '"received_at":"yesterday"', 7, 7000],
    ['one that is no text too', '"received_at":5', 7, 7000],
    ['one of a day that does not exist too', '"received_at":"2026-02-30T00:00:00Z"', 7, 7000],
    ['one past exact microseconds too', '"received_at":"9999-12-31T00:00:00Z"', 7, 7000],
    ['a readable one stands', `"received_at":"${STAMP}"`, 7, AT],
    ['a log without a time (Kafka: -1) counts as the oldest', '"x":1', -1, 0],
    ['a time no clock can show too', '"x":1', 9_223_372_036_854_775_000, 0],
    ['nor can NaN', '"x":1', Number.NaN, 0],
  ];
  for (const [name, member, timestamp, want] of stamps) {
    test(`received at: ${name}`, () => {
      const decoded = decodeRecord(seedWith(member), timestamp);
      expect(decoded.ok && decoded.value.receivedAtMicros).toBe(want);
    });
  }

  const posters: readonly (readonly [string, string | null | undefined])[] = [
    ['"poster_name":"Ada"', 'Ada'],
    ['"poster_name":null', null],
    ['"poster_name":5', undefined],
    ['"posterName":"not the field"', undefined],
  ];
  for (const [member, want] of posters) {
    test(`poster name of ${member}`, () => {
      const decoded = decodeRecord(seedWith(member), 0);
      expect(decoded.ok && decoded.value.posterName).toBe(want);
    });
  }

  test('bytes that are not UTF-8 are rejected, not mended', () => {
    expect(rejectOf(decodeRecord(Uint8Array.of(0x7b, 0xff, 0x7d), 0))).toMatchObject({
      code: 'malformed_json',
      reason: 'the record is not UTF-8',
    });
  });

  test('a byte order mark is no part of the text', () => {
    expect(decodeRecord(new TextEncoder().encode(`\uFEFF${seedText}`), 0).ok).toBe(true);
  });

  test('property: any bytes at all give a pin or a reject', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.integer(), (bytes, timestamp) => {
        expect(rejectOf(decodeRecord(bytes, timestamp)).reason).not.toBe('');
      }),
    );
  });

  test('property: what was accepted is decoded to what was sent, and can be cleaned', () => {
    fc.assert(
      fc.property(anyPin, fc.maxSafeNat(), fc.option(fc.string(), { nil: undefined }), (pin, at, posterName) => {
        const line = lineOf(JSON.stringify({ ...pin, poster_name: posterName }), at);
        const decoded = decodeRecord(new TextEncoder().encode(line), 0);
        const isStorable = !line.includes('\\u');
        const want = { ...pin, unique_id: pin.unique_id.toLowerCase(), receivedAtMicros: at, posterName, isStorable };
        expect(decoded).toEqual({ ok: true, value: want });
        expect(cleanPin(want).uniqueId).toBe(want.unique_id);
      }),
    );
  });

  test('property: cleaning that trusts isStorable gives what cleaning gives that looks for itself', () => {
    const codes = fc.array(fc.constantFrom(0, 0x20, 0x41, 0x5c, 0x75, 0xd83d, 0xde00, 0xe9));
    const odd = fc.option(codes.map((units) => String.fromCharCode(...units)));
    let trusted = 0;
    fc.assert(
      fc.property(anyPin, odd, odd, fc.boolean(), (pin, title, tags, isEscaped) => {
        const text = JSON.stringify({ ...pin, title, tag_list: tags });
        const record = isEscaped
          ? text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          : text;
        const decoded = decodeRecord(encoder.encode(record), 0);
        if (!decoded.ok) throw new Error(decoded.reject.reason);
        if (decoded.value.isStorable) trusted++;
        expect(cleanPin(decoded.value)).toEqual(cleanPin({ ...decoded.value, isStorable: false }));
      }),
    );
    expect(trusted).toBeGreaterThan(0);
  });

  test('a text alone may hold what is not UTF-8: it is looked for', () => {
    const decoded = decodeRecord(JSON.stringify({ ...seedPin, title: 'T' }).replace('"T"', '"\ud800"'), 0);
    expect(decoded.ok && [decoded.value.isStorable, cleanPin(decoded.value).title]).toEqual([false, '\uFFFD']);
  });
});

describe('decodeLines', () => {
  const line = fc.oneof(
    anyPin.map((pin) => encoder.encode(lineOf(JSON.stringify(pin)))),
    fc
      .constantFrom('', '{', `\uFEFF${seedText}`, seedText, `${seedText}\r`, '\uFEFF')
      .map((text) => encoder.encode(text)),
    fc.uint8Array({ maxLength: 20 }).map((bytes) => bytes.filter((byte) => byte !== 0x0a)),
  );
  const told = (lines: Uint8Array) => {
    const all: unknown[] = [];
    decodeLines(lines, (decoded, bytes) => all.push({ decoded, line: Buffer.from(bytes()) }));
    return all;
  };

  test('property: each line is what decodeRecord says it is, whatever stands beside it', () => {
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const text = Buffer.concat(lines.flatMap((one) => [one, encoder.encode('\n')]));
        expect(told(text)).toEqual(lines.map((one) => ({ decoded: decodeRecord(one, 0), line: Buffer.from(one) })));
      }),
      { numRuns: 300 },
    );
  });

  test('the last line may lack its line feed, and who asks for bytes late gets those of the line', () => {
    const lines = ['1', '2', seedText, '4'];
    const asked: string[] = [];
    decodeLines(encoder.encode(lines.join('\n')), (decoded, bytes) => {
      if (decoded.ok) return;
      asked.push(Buffer.from(bytes()).toString());
    });
    expect(asked).toEqual(['1', '2', '4']);
    expect(told(encoder.encode(lines.join('\n')))).toHaveLength(4);
  });
});

test('decodeUtf8 is null for what is not UTF-8', () => {
  expect(decodeUtf8(new TextEncoder().encode('東京'))).toBe('東京');
  expect(decodeUtf8(Uint8Array.of(0xed, 0xa0, 0x80))).toBeNull();
});

test('the whole fixture goes through, and its errors are found', () => {
  const errors = new Map<string, number>();
  for (const [i, text] of fixture.entries()) {
    const decoded = decodeRecord(lineOf(text, AT + i), 0);
    if (!decoded.ok) throw new Error(decoded.reject.reason);
    expect(formatMicros(decoded.value.receivedAtMicros)).toBe(formatMicros(AT + i));
    for (const field of cleanPin(decoded.value).errorFields) errors.set(field, (errors.get(field) ?? 0) + 1);
  }
  const placeholders = (text: string) => fixture.filter((line) => line.includes(text)).length;
  expect(Object.fromEntries(errors)).toEqual({
    title: placeholders('"No Title Data Available"'),
    description: placeholders('"No description available') + placeholders('"Untitled"'),
    follower_count: placeholders('"User Info Error"'),
    tag_list: placeholders('"N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"'),
    image_src: placeholders('"Image src error."'),
  });
});
