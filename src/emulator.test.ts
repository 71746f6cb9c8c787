import { afterEach, describe, expect, test } from 'bun:test';
import { type EmulateOptions, type EmulateTally, emulate } from './emulator.ts';
import { PinflowError } from './errors.ts';

type Posted = {
  readonly path: string;
  readonly type: string | null;
  readonly auth: string | null;
  readonly body: string;
};

const servers: { readonly stop: (closeActive: boolean) => Promise<void> }[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop(true);
});

/** An edge that answers as `answer` says, and what it got. */
const edge = (answer: (n: number, body: string) => Response | Promise<Response>) => {
  const posted: Posted[] = [];
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: async (request) => {
      const body = await request.text();
      const { headers } = request;
      posted.push({
        path: new URL(request.url).pathname,
        type: headers.get('content-type'),
        auth: headers.get('authorization'),
        body,
      });
      return answer(posted.length, body);
    },
  });
  servers.push(server);
  return { url: server.url.toString(), posted };
};

async function* numbered(count = Number.POSITIVE_INFINITY): AsyncGenerator<string> {
  for (let n = 1; n <= count; n++) yield `{"n":${n}}`;
}

/** As fast as the edge answers. */
const run = (options: Partial<EmulateOptions> & { readonly url: string }): Promise<EmulateTally> =>
  emulate({ source: numbered(), rate: Number.POSITIVE_INFINITY, ...options });

const ok = () => new Response('{}');
const overloaded = (retryAfter: string) => new Response('', { status: 503, headers: { 'Retry-After': retryAfter } });
const bodies = (posted: readonly Posted[]) => posted.map((p) => p.body).toSorted();

describe('requests', () => {
  test('single pins go to POST /pin/, with the key', async () => {
    const { url, posted } = edge(ok);
    const tally = await run({ url, count: 3, apiKey: 'key-of-sixteen-chars' });
    expect(tally).toEqual({ accepted: 3, rejected: 0, failed: 0, retries: 0, statuses: { 200: 3 } });
    expect(bodies(posted)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}']);
    expect(posted[0]).toMatchObject({ path: '/pin/', type: 'application/json', auth: 'Bearer key-of-sixteen-chars' });
  });

  test('batches go to POST /pins as NDJSON; the last may be smaller', async () => {
    const { url, posted } = edge((_, body) => Response.json({ accepted: body.split('\n').length, rejected: 0 }));
    const tally = await run({ url: url.slice(0, -1), source: numbered(5), batch: 2 });
    expect(tally).toEqual({ accepted: 5, rejected: 0, failed: 0, retries: 0, statuses: { 200: 3 } });
    expect(bodies(posted)).toEqual(['{"n":1}\n{"n":2}', '{"n":3}\n{"n":4}', '{"n":5}']);
    expect(posted[0]).toMatchObject({ path: '/pins', type: 'application/x-ndjson', auth: null });
  });

  test('a batch is cut at the count', async () => {
    const { url, posted } = edge((_, body) => Response.json({ accepted: body.split('\n').length }));
    expect((await run({ url, count: 5, batch: 3 })).accepted).toBe(5);
    expect(bodies(posted)).toEqual(['{"n":1}\n{"n":2}\n{"n":3}', '{"n":4}\n{"n":5}']);
  });

  test('a count of 0 posts nothing', async () => {
    const { url, posted } = edge(ok);
    expect((await run({ url, count: 0 })).accepted).toBe(0);
    expect(posted).toEqual([]);
  });

  test('a URL with a path keeps it', async () => {
    const { url, posted } = edge(ok);
    await run({ url: `${url}behind/a/proxy`, count: 1 });
    expect(posted[0]?.path).toBe('/behind/a/proxy/pin/');
  });

  test('requests overlap, up to a bound', async () => {
    let open = 0;
    let most = 0;
    const { url } = edge(async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setImmediate(resolve));
      open--;
      return ok();
    });
    await run({ url, count: 500 });
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(64);
  });
});

describe('outcomes', () => {
  test('pins refused are counted, by status', async () => {
    const { url } = edge((n) => new Response('', { status: n % 2 === 0 ? 422 : 200 }));
    const tally = await run({ url, count: 10 });
    expect(tally).toEqual({ accepted: 5, rejected: 5, failed: 0, retries: 0, statuses: { 200: 5, 422: 5 } });
  });

  test('a bulk answer says how many were taken', async () => {
    const { url } = edge(() => Response.json({ accepted: 3, rejected: 1 }, { status: 207 }));
    const tally = await run({ url, count: 8, batch: 4 });
    expect(tally).toMatchObject({ accepted: 6, rejected: 2, statuses: { 207: 2 } });
  });

  test('a bulk answer that cannot be read takes nothing for granted', async () => {
    const { url } = edge(() => new Response('<html>'));
    expect(await run({ url, count: 4, batch: 4 })).toMatchObject({ accepted: 0, rejected: 4 });
  });

  test('503 is sent again, the same pin, after its Retry-After', async () => {
    const { url, posted } = edge((n) => (n <= 3 ? overloaded('0') : ok()));
    const tally = await run({ url, count: 1 });
    expect(tally).toEqual({ accepted: 1, rejected: 0, failed: 0, retries: 3, statuses: { 200: 1, 503: 3 } });
    expect(posted.map((p) => p.body)).toEqual(Array(4).fill('{"n":1}'));
  });

  test('Retry-After may be a date, also one gone by', async () => {
    const { url } = edge((n) => (n === 1 ? overloaded(new Date(0).toUTCString()) : ok()));
    expect(await run({ url, count: 1 })).toMatchObject({ accepted: 1, retries: 1 });
  });

  test('no answer at all is an unknown outcome: sent again', async () => {
    const first = edge(ok);
    await servers.splice(0)[0]?.stop(true);
    const port = new URL(first.url).port;
    let settled: EmulateTally | undefined;
    const progress = Promise.withResolvers<void>();
    const emulating = run({ url: first.url, count: 1, onProgress: () => progress.resolve() }).then((tally) => {
      settled = tally;
    });
    await progress.promise;
    servers.push(Bun.serve({ hostname: '127.0.0.1', port, fetch: ok }));
    await emulating;
    expect(settled).toMatchObject({ accepted: 1, failed: 0 });
    expect(settled?.statuses[0]).toBe(settled?.retries as number);
  });

  test('what has no answer of worth in time is given up, and counted', async () => {
    const { url } = edge(() => overloaded('1'));
    expect(await run({ url, count: 2, giveUpMs: 500 })).toEqual({
      accepted: 0,
      rejected: 0,
      failed: 2,
      retries: 0,
      statuses: { 503: 2 },
    });
  });

  for (const [status, hint] of [
    [401, 'API key'],
    [404, 'URL'],
  ] as const) {
    test(`${status} ends it: no pin will ever be taken`, async () => {
      const { url, posted } = edge(() => new Response('no', { status }));
      const error = await run({ url, count: 1_000_000 }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(PinflowError);
      expect((error as PinflowError).message).toContain(hint);
      expect(posted.length).toBeLessThan(1000);
    });
  }

  test('an error of the source is thrown, after what was posted is settled', async () => {
    const { url, posted } = edge(ok);
    const source = (async function* () {
      yield* numbered(2);
      throw new Error('the disk is gone');
    })();
    await expect(run({ url, source })).rejects.toThrow('the disk is gone');
    expect(posted).toHaveLength(2);
  });
});

describe('stopping', () => {
  test('a signal ends an endless run, and closes the source', async () => {
    const { url } = edge(ok);
    const stop = new AbortController();
    let closed = false;
    const source = (async function* () {
      try {
        yield* numbered();
      } finally {
        closed = true;
      }
    })();
    const tally = await run({ url, source, signal: stop.signal, onProgress: (t) => t.accepted >= 20 && stop.abort() });
    expect(tally.accepted).toBeGreaterThanOrEqual(20);
    expect(tally.failed).toBe(0);
    expect(closed).toBe(true);
  });

  test('a signal ends a long wait before a further try', async () => {
    const { url } = edge(() => overloaded('5'));
    const stop = new AbortController();
    const tally = await run({ url, count: 1, signal: stop.signal, onProgress: () => stop.abort() });
    expect(tally).toMatchObject({ failed: 1, retries: 0, statuses: { 503: 1 } });
  });
});
