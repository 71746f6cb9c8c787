import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { type Harness, openHarness, somePin } from './fixture.ts';

const MAX_PIN_BYTES = 2048;
const MAX_BODY_BYTES = 512 * 1024;
const MAX_BULK_PINS = 5000;

let edge: Harness;
beforeAll(async () => {
  edge = await openHarness({ limits: { MAX_PIN_BYTES, MAX_BODY_BYTES, MAX_BULK_PINS } });
});
afterAll(() => edge.close());

type Outcome = {
  readonly line: number;
  readonly status: string;
  readonly unique_id?: string;
  readonly position?: string;
  readonly code?: string;
  readonly issues?: readonly { readonly field: string }[];
};
type Answer = {
  readonly accepted: number;
  readonly rejected: number;
  readonly outcomes: readonly Outcome[];
  readonly error?: { readonly code: string; readonly message: string };
};

const NDJSON = { 'content-type': 'application/x-ndjson' };
const pinLine = (over = {}) => JSON.stringify(somePin(over));
const post = (body: BodyInit, headers: Readonly<Record<string, string>> = NDJSON) => edge.post('/pins', body, headers);
const answerOf = async (response: Response) => (await response.json()) as Answer;

describe('POST /pins as NDJSON', () => {
  for (const type of ['application/x-ndjson', 'application/jsonl', 'application/ndjson; charset=utf-8']) {
    test(`${type}: each line has an outcome and stands where it says`, async () => {
      const pins = Array.from({ length: 50 }, () => somePin());
      const response = await post(pins.map((pin) => JSON.stringify(pin)).join('\n'), { 'content-type': type });
      expect(response.status).toBe(200);
      expect(response.headers.get('x-pin-durability')).toBe('log');
      const { accepted, rejected, outcomes } = await answerOf(response);
      expect({ accepted, rejected, outcomes: outcomes.length }).toEqual({ accepted: 50, rejected: 0, outcomes: 50 });
      for (const [i, outcome] of outcomes.entries()) {
        expect(outcome).toMatchObject({ line: i + 1, status: 'accepted', unique_id: pins[i]?.unique_id });
        const record = await edge.recordAt(outcome.position ?? null);
        expect(record?.key).toBe(String(pins[i]?.unique_id));
        expect(JSON.parse(record?.line ?? '')).toMatchObject(pins[i] ?? {});
      }
    });
  }

  test('bad lines are refused by number and never hold up their neighbours', async () => {
    const bytes = Buffer.concat([
      Buffer.from(`${pinLine()}\r\n\r\n  \t\n{"broken"\n${pinLine({ index: null })}\n"`),
      Buffer.from([0xff, 0xfe]),
      Buffer.from(`"\n${pinLine({ note: 'x'.repeat(MAX_PIN_BYTES) })}\n${pinLine({ title: '東京' })}\n`),
    ]);
    const before = await edge.count();
    const response = await post(new Uint8Array(bytes));
    expect(response.status).toBe(207);
    const { accepted, rejected, outcomes } = await answerOf(response);
    expect({ accepted, rejected }).toEqual({ accepted: 2, rejected: 4 });
    expect(outcomes.map((o) => [o.line, o.status, o.code ?? ''])).toEqual([
      [1, 'accepted', ''],
      [4, 'rejected', 'malformed_json'],
      [5, 'rejected', 'invalid_pin'],
      [6, 'rejected', 'malformed_json'],
      [7, 'rejected', 'too_large'],
      [8, 'accepted', ''],
    ]);
    expect(outcomes[2]?.issues?.[0]?.field).toBe('index');
    expect(await edge.count()).toBe(before + 2);
  });

  for (const [name, body] of [
    ['nothing', ''],
    ['blank lines', '\n \r\n\n'],
    ['no pin among the lines', 'null\n[]\n{}\n'],
  ] as const) {
    test(`422 for ${name}, and nothing is appended`, async () => {
      const before = await edge.count();
      const response = await post(body);
      expect(response.status).toBe(422);
      const { error, accepted } = await answerOf(response);
      expect(error?.code).toBe('invalid_pin');
      expect(accepted).toBe(0);
      expect(await edge.count()).toBe(before);
    });
  }

  for (const [name, body, type] of [
    ['more lines', '{}\n'.repeat(MAX_BULK_PINS + 1), NDJSON],
    ['a longer array', `[${'1,'.repeat(MAX_BULK_PINS)}1]`, { 'content-type': 'application/json' }],
    ['many more blank lines', `${'\n \n'.repeat(MAX_BULK_PINS + 1)}${pinLine()}`, NDJSON],
  ] as const) {
    test(`${name} than MAX_BULK_PINS are 413, and none is appended`, async () => {
      const before = await edge.count();
      const response = await post(body, type);
      expect(response.status).toBe(413);
      expect(await response.text()).toContain('MAX_BULK_PINS');
      expect(await edge.count()).toBe(before);
    });
  }

  test('property: outcomes follow the lines, whatever stands in them', async () => {
    const line = fc.oneof(
      fc.constant('').map(() => ({ text: pinLine(), ok: true })),
      fc.jsonValue().map((value) => ({ text: JSON.stringify(value), ok: false })),
      fc.string().map((text) => ({ text: text.replaceAll('\n', ' '), ok: false })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 20 }), async (lines) => {
        const response = await post(lines.map((l) => l.text).join('\n'));
        const { accepted, outcomes } = await answerOf(response);
        const good = lines.flatMap((l, i) => (l.ok ? [i + 1] : []));
        expect(accepted).toBe(good.length);
        expect(outcomes.filter((o) => o.status === 'accepted').map((o) => o.line)).toEqual(good);
        expect(response.status).toBe(good.length === 0 ? 422 : good.length === outcomes.length ? 200 : 207);
      }),
      { numRuns: 100 },
    );
  }, 60_000);
});

describe('POST /pins as a JSON array', () => {
  const JSON_TYPE = { 'content-type': 'application/json' };

  test('elements keep the text they were sent as', async () => {
    const texts = [
      `${pinLine().slice(0, -1)},"big":12345678901234567890}`,
      `${pinLine().slice(0, -1)},"a":1,"a":2,"s":"],[{\\"\\\\"}`,
      JSON.stringify(somePin({ title: 'a, b' })),
    ];
    const response = await post(`[ ${texts.join('\n ,\t')}\n]`, JSON_TYPE);
    expect(response.status).toBe(200);
    const { outcomes } = await answerOf(response);
    for (const [i, text] of texts.entries()) {
      const record = await edge.recordAt(outcomes[i]?.position ?? null);
      expect(record?.line.startsWith(text.slice(0, -1))).toBe(true);
    }
  });

  test('a bad element is refused by its place, null included', async () => {
    const response = await post(`[${pinLine()},null,${pinLine({ downloaded: 0.5 })},"x"]`, JSON_TYPE);
    expect(response.status).toBe(207);
    const { outcomes } = await answerOf(response);
    expect(outcomes.map((o) => [o.line, o.status])).toEqual([
      [1, 'accepted'],
      [2, 'rejected'],
      [3, 'rejected'],
      [4, 'rejected'],
    ]);
  });

  const refused: readonly (readonly [string, string, number])[] = [
    ['an empty array', '[]', 422],
    ['a single pin', pinLine(), 422],
    ['null', 'null', 422],
    ['half an array', `[${pinLine()}`, 400],
    ['an empty body', '', 400],
    ['NDJSON under the wrong type', `${pinLine()}\n${pinLine()}`, 400],
  ];
  for (const [name, body, status] of refused) {
    test(`${name} is ${status}`, async () => {
      expect((await post(body, JSON_TYPE)).status).toBe(status);
    });
  }

  test('another Content-Type is 415', async () => {
    expect((await post(pinLine(), { 'content-type': 'text/csv' })).status).toBe(415);
  });
});

describe('POST /pins compressed', () => {
  const GZIP = { ...NDJSON, 'content-encoding': 'gzip' };
  const gzip = (text: string) => Bun.gzipSync(Buffer.from(text));

  test('gzip is taken, NDJSON and JSON', async () => {
    const ndjson = await post(gzip(`${pinLine()}\n${pinLine()}\n`), GZIP);
    expect((await answerOf(ndjson)).accepted).toBe(2);
    const json = await post(gzip(`[${pinLine()}]`), { ...GZIP, 'content-type': 'application/json' });
    expect((await answerOf(json)).accepted).toBe(1);
  });

  test('a bomb stops at the limit of what it inflates to', async () => {
    const bomb = gzip(' '.repeat(64 * 1024 * 1024));
    expect(bomb.byteLength).toBeLessThan(MAX_BODY_BYTES);
    const response = await post(bomb, GZIP);
    expect(response.status).toBe(413);
    expect(await response.text()).toContain('MAX_BODY_BYTES');
  });

  for (const [name, bytes] of [
    ['not gzip', Buffer.from(pinLine())],
    ['cut short', gzip(pinLine()).subarray(0, 40)],
    ['empty', Buffer.alloc(0)],
  ] as const) {
    test(`${name} is 400`, async () => {
      const response = await post(new Uint8Array(bytes), GZIP);
      expect(response.status).toBe(400);
      expect(await response.text()).toContain('gzip');
    });
  }

  test('other encodings are 415', async () => {
    expect((await post(pinLine(), { ...NDJSON, 'content-encoding': 'zstd' })).status).toBe(415);
    expect((await post(pinLine(), { ...NDJSON, 'content-encoding': 'identity' })).status).toBe(200);
  });
});
