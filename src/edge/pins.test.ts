import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import type { ErrorBody } from './error-response.ts';
import { type Harness, openHarness, somePin } from './fixture.ts';

const MAX_PIN_BYTES = 3 * 1024 * 1024;
let edge: Harness;
beforeAll(async () => {
  edge = await openHarness({ limits: { MAX_PIN_BYTES } });
});
afterAll(() => edge.close());

const JSON_TYPE = { 'content-type': 'application/json' };
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;
const stored = (response: Response) => edge.recordAt(response.headers.get('x-pin-position'));
/** The pin's JSON with one more member, written by hand: spelling and order survive. */
const pinWith = (member: string) => `${JSON.stringify(somePin()).slice(0, -1)},${member}}`;

describe('POST /pin/', () => {
  for (const path of ['/pin/', '/pin']) {
    test(`${path} answers with the stored line and where it stands`, async () => {
      const pin = somePin();
      const response = await edge.post(path, JSON.stringify(pin));
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('application/json');
      expect(response.headers.get('x-pin-durability')).toBe('log');
      const line = await response.text();
      const { received_at, ...rest } = JSON.parse(line);
      expect(rest).toEqual(pin);
      expect(received_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      expect(await stored(response)).toEqual({ key: String(pin.unique_id), line });
    });
  }

  const types: readonly (readonly [string, number])[] = [
    ['application/json; charset=utf-8', 200],
    ['Application/JSON', 200],
    ['application/vnd.pinterest.pin+json', 200],
    ['text/plain', 415],
    ['application/x-www-form-urlencoded', 415],
    ['multipart/form-data; boundary=x', 415],
    ['application/x-ndjson', 415],
    ['application/jsonx', 415],
    ['', 415],
  ];
  for (const [type, status] of types) {
    test(`Content-Type ${JSON.stringify(type)} is ${status}`, async () => {
      const response = await edge.post('/pin/', JSON.stringify(somePin()), { 'content-type': type });
      expect(response.status).toBe(status);
      if (status === 415) expect((await errorOf(response)).code).toBe('unsupported_media_type');
    });
  }

  for (const encoding of ['gzip', 'br', 'deflate']) {
    test(`Content-Encoding ${encoding} is 415`, async () => {
      const response = await edge.post('/pin/', JSON.stringify(somePin()), {
        ...JSON_TYPE,
        'content-encoding': encoding,
      });
      expect(response.status).toBe(415);
    });
  }
});

describe('bodies that are no JSON are 400', () => {
  const bodies: readonly (readonly [string, BodyInit])[] = [
    ['empty', ''],
    ['white space', ' \n\t '],
    ['half an object', '{"category":"x"'],
    ['two objects', `${JSON.stringify(somePin())}${JSON.stringify(somePin())}`],
    ['single quotes', "{'category':'x'}"],
    ['NaN', pinWith('"x":NaN')],
    ['a raw NUL', '{"category":"\0"}'],
    ['invalid UTF-8', new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['UTF-16', new Uint8Array(Buffer.from(JSON.stringify(somePin()), 'utf16le'))],
    ['an unclosed bracket, 100,000 times', '['.repeat(100_000)],
  ];
  for (const [name, body] of bodies) {
    test(name, async () => {
      const before = await edge.count();
      const response = await edge.post('/pin/', body);
      expect(response.status).toBe(400);
      expect((await errorOf(response)).code).toBe('malformed_json');
      expect(await edge.count()).toBe(before);
    });
  }
});

describe('JSON that is no pin is 422 and says why', () => {
  for (const body of [
    'null',
    '[]',
    '"pin"',
    '1',
    'true',
    JSON.stringify([somePin()]),
    '['.repeat(100_000) + ']'.repeat(100_000),
  ]) {
    test(body.slice(0, 20), async () => {
      const response = await edge.post('/pin/', body);
      expect(response.status).toBe(422);
      expect((await errorOf(response)).issues).toEqual([
        { field: '$', message: 'should be a JSON object with the fields of a pin' },
      ]);
    });
  }

  test('every wrong field is named, with what it should be', async () => {
    const { category: _, ...rest } = somePin({ index: '1', downloaded: 2 ** 31, unique_id: 'x', title: 5 });
    const response = await edge.post('/pin/', JSON.stringify(rest));
    expect(response.status).toBe(422);
    const { issues = [] } = await errorOf(response);
    expect(new Set(issues.map((issue) => issue.field))).toEqual(
      new Set(['category', 'index', 'downloaded', 'unique_id', 'title']),
    );
    for (const issue of issues) expect(issue.message).toMatch(/should be (a|an) /);
  });

  test('fields inherited through __proto__ do not count', async () => {
    const response = await edge.post('/pin/', `{"__proto__":${JSON.stringify(somePin())}}`);
    expect(response.status).toBe(422);
    expect((await errorOf(response)).issues).toHaveLength(11);
  });
});

describe('the absurd that is a pin nonetheless is kept as it came', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['1 MiB of text', pinWith(`"note":"${'x'.repeat(1024 * 1024)}"`)],
    ['an escaped NUL', pinWith('"note":"\\u0000"')],
    ['a lone surrogate', pinWith('"note":"\\ud800"')],
    ['10,000 tags', JSON.stringify(somePin({ tag_list: Array.from({ length: 10_000 }, (_, i) => `t${i}`).join(',') }))],
    ['a number beyond 2^53', pinWith('"big":12345678901234567890')],
    ['a number beyond all doubles', pinWith('"huge":1e400')],
    ['a doubled key', pinWith('"a":1,"a":2')],
    ['a __proto__ key', pinWith('"__proto__":{"index":"x"}')],
    ['an emoji', JSON.stringify(somePin({ title: '✨ 東京' }))],
    ['100,000 brackets deep', pinWith(`"deep":${'['.repeat(100_000)}${']'.repeat(100_000)}`)],
  ];
  for (const [name, body] of cases) {
    test(name, async () => {
      const response = await edge.post('/pin/', body);
      expect(response.status).toBe(200);
      const line = await response.text();
      expect(line.startsWith(body.slice(0, -1))).toBe(true);
      expect((await stored(response))?.line).toBe(line);
    });
  }

  test('a received_at of the sender is replaced, and nothing else, however deep or big the rest', async () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const body = pinWith(`"received_at":"1999-01-01T00:00:00Z","big":12345678901234567890,"deep":${deep}`);
    const response = await edge.post('/pin/', body);
    expect(response.status).toBe(200);
    const line = await response.text();
    expect(line).not.toContain('1999');
    expect(line).toContain('"big":12345678901234567890');
    expect(line.match(/"received_at"/g)).toHaveLength(1);
  });

  test('a byte order mark is dropped', async () => {
    const response = await edge.post('/pin/', `\uFEFF${JSON.stringify(somePin())}`);
    expect(response.status).toBe(200);
    expect((await response.text()).startsWith('{')).toBe(true);
  });

  test('line breaks between tokens become spaces: a pin is one line', async () => {
    const response = await edge.post('/pin/', `\r\n${JSON.stringify(somePin(), null, 2)}\r\n`);
    expect(response.status).toBe(200);
    expect(await response.text()).not.toMatch(/[\r\n]/);
  });

  test('an id in upper case is the same pin in lower case', async () => {
    const id = crypto.randomUUID();
    const response = await edge.post('/pin/', JSON.stringify(somePin({ unique_id: id.toUpperCase() })));
    expect(response.status).toBe(200);
    expect((await stored(response))?.key).toBe(id);
  });
});

test('a body larger than MAX_PIN_BYTES is 413, with and without a Content-Length', async () => {
  const body = pinWith(`"note":"${'x'.repeat(MAX_PIN_BYTES)}"`);
  const declared = { ...JSON_TYPE, 'content-length': String(body.length) };
  for (const headers of [JSON_TYPE, declared]) {
    const response = await edge.post('/pin/', body, headers);
    expect(response.status).toBe(413);
    expect((await errorOf(response)).message).toContain('MAX_PIN_BYTES');
    expect(response.headers.get('connection')).toBe('close');
  }
});

test('property: whatever JSON is posted, 2xx means that the log has it and anything else is a 4xx', async () => {
  const pinLike = fc.record(
    {
      category: fc.oneof(fc.string(), fc.jsonValue()),
      index: fc.oneof(fc.integer(), fc.double(), fc.jsonValue()),
      unique_id: fc.oneof(fc.uuid(), fc.string()),
      title: fc.option(fc.string({ unit: 'binary' })),
      description: fc.option(fc.string()),
      follower_count: fc.option(fc.string()),
      tag_list: fc.option(fc.string()),
      is_image_or_video: fc.option(fc.string()),
      image_src: fc.option(fc.string()),
      downloaded: fc.integer(),
      save_location: fc.option(fc.string()),
      received_at: fc.jsonValue(),
      extra: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  const wholePin = fc
    .record({ title: fc.string({ unit: 'binary' }), extra: fc.jsonValue() })
    .map((over) => somePin(over));
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.jsonValue(), pinLike, wholePin), async (value) => {
      const before = await edge.count();
      const response = await edge.post('/pin/', JSON.stringify(value));
      const text = await response.text();
      if (response.status === 200) {
        accepted++;
        expect(await edge.count()).toBe(before + 1);
        expect((await stored(response))?.line).toBe(text);
        const { received_at: _, ...sent } = JSON.parse(JSON.stringify(value));
        const { received_at: __, ...kept } = JSON.parse(text);
        expect(kept).toEqual(sent);
      } else {
        expect(response.status).toBeGreaterThanOrEqual(400);
        expect(response.status).toBeLessThan(500);
        expect(await edge.count()).toBe(before);
      }
    }),
    { numRuns: 300 },
  );
  expect(accepted).toBeGreaterThan(30);
}, 60_000);
