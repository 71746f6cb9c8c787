import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { PinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import type { ErrorBody } from './error-response.ts';
import { type Harness, openHarness, somePin } from './fixture.ts';

/** Milliseconds; a busy machine may be slow, a wrong program waits for ever. */
setDefaultTimeout(30_000);

const opened: Harness[] = [];
const open = async (...args: Parameters<typeof openHarness>): Promise<Harness> => {
  const harness = await openHarness(...args);
  opened.push(harness);
  return harness;
};
afterEach(async () => {
  for (const harness of opened.splice(0)) await harness.close();
});

const NDJSON = { 'content-type': 'application/x-ndjson' };
const bodyOf = async (response: Response) => ((await response.json()) as ErrorBody).error;
/** One try at each route that takes pins. */
const tries: readonly (readonly [string, (edge: Harness) => Promise<Response>])[] = [
  ['POST /pin/', (edge) => edge.post('/pin/', JSON.stringify(somePin()))],
  ['POST /pins', (edge) => edge.post('/pins', `${JSON.stringify(somePin())}\n{}`, NDJSON)],
];

describe('a log that fails never gives a 2xx', () => {
  const failures: readonly (readonly [string, unknown, number, string | null])[] = [
    ['overloaded', new PinflowError('overloaded', 'too much', { retryable: true }), 503, '1'],
    ['log_unavailable', new PinflowError('log_unavailable', 'gone', { retryable: true }), 503, '1'],
    ['disk_full', new PinflowError('disk_full', 'no room'), 507, null],
    ['internal', new TypeError('secret detail'), 500, null],
    ['internal', 'not even an error', 500, null],
  ];
  for (const [route, attempt] of tries) {
    for (const [code, failure, status, retryAfter] of failures) {
      for (const how of ['rejects', 'throws'] as const) {
        test(`${route}: the log ${how} with ${String(failure)}`, async () => {
          const append = () => {
            if (how === 'throws') throw failure;
            return Promise.reject(failure);
          };
          const edge = await open({ append: () => append });
          const response = await attempt(edge);
          expect(response.status).toBe(status);
          expect(response.headers.get('retry-after')).toBe(retryAfter);
          expect((await bodyOf(response)).code).toBe(code as never);
          expect(await edge.metric('pinflow_edge_pins_total{outcome="failed"}')).toBe(1);
          expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(0);
        });
      }
    }

    test(`${route}: the log acks fewer records than it was given`, async () => {
      const edge = await open({ append: () => async () => [] });
      expect((await attempt(edge)).status).toBe(500);
    });
  }
});

test('an unforeseen error is logged once under the id the client is told, and told no more', async () => {
  const lines: string[] = [];
  const logger = createLogger('silent', 'test');
  const edge = await open({
    append: () => () => Promise.reject(new TypeError('secret detail')),
    deps: { logger: { ...logger, error: (...args: readonly unknown[]) => lines.push(JSON.stringify(args)) } as never },
  });
  const response = await edge.post('/pin/', JSON.stringify(somePin()));
  const text = await response.text();
  expect(text).not.toContain('secret');
  expect(text).not.toContain('.ts');
  const { request_id = '' } = (JSON.parse(text) as ErrorBody).error;
  expect(response.headers.get('x-request-id')).toBe(request_id);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(request_id);
});

test('pins not durable in time are a 503 that says a repeat is safe; they stay counted until the log is done with them', async () => {
  const gate = Promise.withResolvers<void>();
  const edge = await open({
    limits: { REQUEST_TIMEOUT_MS: 100 },
    append: (log) => (records) => gate.promise.then(() => log.append(records)),
  });
  const body = JSON.stringify(somePin());
  const response = await edge.post('/pin/', body);
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('1');
  const { code, message } = await bodyOf(response);
  expect(code).toBe('timeout');
  expect(message).toContain('unique_id');
  expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(Buffer.byteLength(body));
  gate.resolve();
  const deadline = performance.now() + 5000;
  while ((await edge.metric('pinflow_edge_pending_bytes')) > 0 && performance.now() < deadline) await Bun.sleep(5);
  expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(0);
  expect(await edge.count()).toBe(1);
});

describe('bytes held by all requests are bounded', () => {
  test('beyond MAX_PENDING_BYTES the answer is 503 until the log has caught up', async () => {
    const gate = Promise.withResolvers<void>();
    const edge = await open({
      limits: { MAX_PENDING_BYTES: 3000, MAX_PIN_BYTES: 2500 },
      append: (log) => (records) => gate.promise.then(() => log.append(records)),
    });
    const body = JSON.stringify(somePin({ note: 'x'.repeat(1500) }));
    const first = edge.post('/pin/', body);
    const second = await edge.post('/pin/', body);
    expect(second.status).toBe(503);
    expect(second.headers.get('retry-after')).toBe('1');
    expect((await bodyOf(second)).code).toBe('overloaded');
    gate.resolve();
    expect((await first).status).toBe(200);
    expect((await edge.post('/pin/', body)).status).toBe(200);
    expect(await edge.count()).toBe(2);
  });

  test('a body that could never fit is 413, not a 503 for ever', async () => {
    const edge = await open({ limits: { MAX_PENDING_BYTES: 1000 } });
    const body = JSON.stringify(somePin({ note: 'x'.repeat(1500) }));
    expect((await edge.post('/pin/', body)).status).toBe(413);
    expect((await edge.post('/pins', body, NDJSON)).status).toBe(413);
  });

  test('refused bodies give their bytes back', async () => {
    const edge = await open({ limits: { MAX_PENDING_BYTES: 4000, MAX_PIN_BYTES: 1000 } });
    for (let i = 0; i < 20; i++) {
      expect((await edge.post('/pin/', '{"a":'.padEnd(900))).status).toBe(400);
      expect((await edge.post('/pin/', 'x'.repeat(1001))).status).toBe(413);
      expect((await edge.post('/pins', '{}', NDJSON)).status).toBe(422);
    }
    expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(0);
  });
});

describe('a body that comes too slowly, or not whole', () => {
  const partly = (end: (controller: ReadableStreamDefaultController<Uint8Array>) => void) =>
    new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode('{"category":'));
        end(controller);
      },
    });

  test('is 408 after REQUEST_TIMEOUT_MS', async () => {
    const edge = await open({ limits: { REQUEST_TIMEOUT_MS: 100 } });
    const response = await edge.post(
      '/pin/',
      partly(() => undefined),
    );
    expect(response.status).toBe(408);
    expect((await bodyOf(response)).code).toBe('slow_body');
    expect(response.headers.get('connection')).toBe('close');
    expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(0);
  });

  test('is 400 when it breaks off', async () => {
    const edge = await open();
    const response = await edge.post(
      '/pin/',
      partly((controller) => controller.error(new Error('reset'))),
    );
    expect(response.status).toBe(400);
    expect(await edge.metric('pinflow_edge_pending_bytes')).toBe(0);
  });
});

test('pins in the spool are a 2xx that says so, without a position', async () => {
  const edge = await open({ deps: { inlet: { append: async () => ({ durability: 'spool', positions: null }) } } });
  const one = await edge.post('/pin/', JSON.stringify(somePin()));
  expect([one.status, one.headers.get('x-pin-durability'), one.headers.get('x-pin-position')]).toEqual([
    200,
    'spool',
    null,
  ]);
  const many = await edge.post('/pins', `${JSON.stringify(somePin())}\n{}\n${JSON.stringify(somePin())}`, NDJSON);
  expect([many.status, many.headers.get('x-pin-durability')]).toEqual([207, 'spool']);
  const { accepted, outcomes } = (await many.json()) as {
    accepted: number;
    outcomes: readonly { position?: unknown }[];
  };
  expect([accepted, outcomes.map(({ position }) => position)]).toEqual([2, [null, undefined, null]]);
  expect(await edge.metric('pinflow_edge_pins_total{outcome="accepted"}')).toBe(3);
});
