import { somePin } from '../../src/edge/fixture.ts';
import type { Random } from '../sim/random.ts';
import type { Step } from './exchange.ts';
import { LIMITS } from './limits.ts';

export type Case = {
  readonly kind: Kind;
  readonly steps: readonly Step[];
  /** Most answers it can get. */
  readonly answers: number;
  /** Answers it must get, in order; null: any of the documented kinds, or none and the end of the connection. */
  readonly wanted: readonly number[] | null;
};

const encoder = new TextEncoder();

const pinJson = (random: Random, title = 'fuzz'): string =>
  JSON.stringify(
    somePin({
      index: random.int(1, 9999),
      unique_id: `00000000-0000-4000-8000-${random
        .int(0, 2 ** 30)
        .toString(16)
        .padStart(12, '0')}`,
      title,
      description: 'ÄÖÜ 鯉',
    }),
  );

type Headers = Readonly<Record<string, string>>;

const head = (path: string, headers: Headers, method = 'POST'): string =>
  `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;

const JSON_TYPE = { 'Content-Type': 'application/json' };
const NDJSON_TYPE = { 'Content-Type': 'application/x-ndjson' };

const request = (path: string, body: Uint8Array | string, headers: Headers = JSON_TYPE): Uint8Array => {
  const bytes = typeof body === 'string' ? encoder.encode(body) : body;
  return Buffer.concat([encoder.encode(head(path, { ...headers, 'Content-Length': String(bytes.length) })), bytes]);
};

/** Some bytes of a text made others, cut out or doubled. */
const mutate = (random: Random, text: string): Uint8Array => {
  const bytes = [...encoder.encode(text)];
  for (let i = random.int(1, 8); i > 0; i--) {
    const at = random.int(0, bytes.length - 1);
    const how = random.pick(['change', 'cut', 'double']);
    if (how === 'change') bytes[at] = random.int(0, 255);
    else bytes.splice(at, how === 'cut' ? random.int(1, 20) : 0, ...(how === 'double' ? bytes.slice(at, at + 20) : []));
  }
  return Uint8Array.from(bytes);
};

const garbage = (random: Random, length: number): Uint8Array => Uint8Array.from({ length }, () => random.int(0, 255));

const bulk = (random: Random, pins: number) => Array.from({ length: pins }, () => pinJson(random)).join('\n');

const BOMB = Bun.gzipSync(new Uint8Array(64 * 1024 * 1024));

const one = (bytes: Uint8Array | string, wanted: readonly number[] | null, ...after: readonly Step[]) => ({
  steps: [{ send: bytes }, ...after],
  answers: 1,
  wanted,
});

type Make = (random: Random) => Omit<Case, 'kind'>;

const BODIES = {
  'a good pin': (random) => one(request('/pin/', pinJson(random)), [200]),
  'a good bulk': (random) => one(request('/pins', bulk(random, 50), NDJSON_TYPE), [200]),
  'a pin with wrong bytes': (random) => one(request('/pin/', mutate(random, pinJson(random))), null),
  'a bulk with wrong bytes': (random) => one(request('/pins', mutate(random, bulk(random, 20)), NDJSON_TYPE), null),
  'an array with wrong bytes': (random) =>
    one(request('/pins', mutate(random, `[${pinJson(random)},${pinJson(random)}]`)), null),
  'nested arrays': (random) => one(request('/pin/', '['.repeat(random.int(1, 60_000))), [400]),
  'garbage as a body': (random) => one(request('/pins', garbage(random, random.int(1, 5000)), NDJSON_TYPE), [422]),
  'a pin that is too large': (random) =>
    one(request('/pin/', pinJson(random, 'x'.repeat(LIMITS.MAX_PIN_BYTES + random.int(0, 100_000)))), [413]),
  'too many lines': (random) =>
    one(request('/pins', '{}\n'.repeat(LIMITS.MAX_BULK_PINS + random.int(1, 5000)), NDJSON_TYPE), [413]),
  'a gzip bomb': () => one(request('/pins', BOMB, { ...NDJSON_TYPE, 'Content-Encoding': 'gzip' }), [413]),
  'a gzip bomb for one pin': () =>
    one(request('/pin/', BOMB.slice(0, 5000), { ...JSON_TYPE, 'Content-Encoding': 'gzip' }), [415]),
  'an unknown encoding': (random) =>
    one(
      request('/pins', 'x', { ...NDJSON_TYPE, 'Content-Encoding': random.pick(['br', 'zstd', 'gzip, gzip']) }),
      [415],
    ),
  'gzip cut short': (random) => {
    const whole = Bun.gzipSync(encoder.encode(bulk(random, 30)));
    const cut = whole.slice(0, random.int(1, whole.length - 1));
    return one(request('/pins', cut, { ...NDJSON_TYPE, 'Content-Encoding': 'gzip' }), [400]);
  },
} as const satisfies Record<string, Make>;

const CONNECTIONS = {
  'a body that stalls': (random) => {
    const body = pinJson(random);
    const start = head('/pin/', { ...JSON_TYPE, 'Content-Length': String(body.length * 2) }) + body;
    return one(start, [408], { waitMs: 2 * LIMITS.REQUEST_TIMEOUT_MS });
  },
  'a body in drops': (random) => {
    const bytes = request('/pin/', pinJson(random));
    const piece = Math.ceil(bytes.length / random.int(2, 20));
    const pieces = Array.from({ length: Math.ceil(bytes.length / piece) }, (_, i) =>
      bytes.subarray(i * piece, (i + 1) * piece),
    );
    return { steps: pieces.flatMap((send) => [{ send }, { waitMs: 5 }]), answers: 1, wanted: [200] };
  },
  'a half-closed socket': (random) => one(request('/pin/', pinJson(random)), null, { end: true }),
  'half a request and the end': (random) => {
    const bytes = request('/pin/', pinJson(random));
    return one(bytes.subarray(0, random.int(1, bytes.length - 1)), null, { end: true });
  },
  'half a request and a reset': (random) => {
    const bytes = request('/pins', bulk(random, 100), NDJSON_TYPE);
    return one(
      bytes.subarray(0, random.int(1, bytes.length - 1)),
      null,
      { waitMs: random.int(0, 20) },
      { reset: true },
    );
  },
  'pipelined requests': (random) => {
    const count = random.int(2, 20);
    const bytes = Buffer.concat(Array.from({ length: count }, () => request('/pin/', pinJson(random))));
    return { steps: [{ send: bytes }], answers: count, wanted: null };
  },
  'huge headers': (random) =>
    one(
      head('/pin/', { ...JSON_TYPE, 'X-Large': 'x'.repeat(random.int(10_000, 1_000_000)), 'Content-Length': '0' }),
      null,
    ),
  'many headers': (random) =>
    one(
      head('/pin/', Object.fromEntries(Array.from({ length: random.int(100, 5000) }, (_, i) => [`X-${i}`, 'y']))),
      null,
      { end: true },
    ),
  'a long path': (random) => one(head(`/${'p'.repeat(random.int(1000, 60_000))}`, {}, 'GET'), null),
  'an unknown path or method': (random) =>
    one(
      head(
        random.pick(['/nothing', '/pin/x/y', '/%00', '/pins/../pin']),
        { 'Content-Length': '0' },
        random.pick(['PUT', 'DELETE', 'TRACE', 'XYZ']),
      ),
      null,
    ),
  'a wrong length': (random) =>
    one(
      head('/pin/', {
        ...JSON_TYPE,
        'Content-Length': random.pick(['-1', '1e9', 'x', '99999999999999999999', '5, 6']),
      }),
      null,
      {
        end: true,
      },
    ),
  'a huge length': () => one(head('/pins', { ...NDJSON_TYPE, 'Content-Length': String(2 ** 40) }), [413]),
  'broken chunks': (random) =>
    one(
      head('/pins', { ...NDJSON_TYPE, 'Transfer-Encoding': 'chunked' }) +
        random.pick(['zz\r\nabc\r\n', '5\r\nab', 'ffffffffffffffff\r\n', '-1\r\n\r\n', '3\r\nabc0\r\n\r\n']),
      null,
      { end: true },
    ),
  'chunks without an end': (random) =>
    one(
      head('/pins', { ...NDJSON_TYPE, 'Transfer-Encoding': 'chunked' }) +
        `${pinJson(random).length.toString(16)}\r\n{}`,
      [408],
      { waitMs: 2 * LIMITS.REQUEST_TIMEOUT_MS },
    ),
  'no HTTP at all': (random) => one(garbage(random, random.int(1, 3000)), null, { end: true }),
} as const satisfies Record<string, Make>;

const MAKE = { ...BODIES, ...CONNECTIONS };
export type Kind = keyof typeof MAKE;
export const KINDS = Object.keys(MAKE) as [Kind, ...Kind[]];

/** @param n which kind: the next for each seed, so that none is left out */
export const drawCase = (random: Random, n: number): Case => {
  const kind = KINDS[n % KINDS.length] ?? KINDS[0];
  return { kind, ...MAKE[kind](random) };
};

/** A request of about a megabyte, of good pins. */
export const largeBulk = (random: Random): Uint8Array =>
  request('/pins', Array.from({ length: 30 }, () => pinJson(random, 'x'.repeat(30_000))).join('\n'), NDJSON_TYPE);

export const goodPin = (random: Random): Uint8Array => request('/pin/', pinJson(random));
