import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createLogger } from '../logger.ts';
import type { Position } from '../pin/pin.ts';
import type { EdgeDeps } from './deps.ts';
import type { ErrorBody } from './error-response.ts';
import { type Harness, openHarness, somePin } from './fixture.ts';
import { startEdge } from './server.ts';

/** Milliseconds; a busy machine may be slow, a wrong program waits for ever. */
setDefaultTimeout(30_000);

/** Longer than any test: only what a test does ends a wait. */
const LONG_MS = 60_000;
const SHORT_MS = 100;
const JSON_TYPE = { 'content-type': 'application/json' };

type Answer = { readonly clean: boolean | null; readonly position: string | null; readonly reason?: string };

/** The edge over a real log; how far the speed view is, the test says. */
const openEdge = async (waitMs: number, deps: Partial<EdgeDeps> = {}) => {
  const handled = new Map<number, number>();
  const counts = { polls: 0 };
  const harness: Harness = await openHarness({
    limits: { FEEDBACK_WAIT_MS: waitMs },
    deps: {
      feedback: {
        handled: async () => {
          counts.polls++;
          return new Map(handled);
        },
        read: async () => [],
      },
      ...deps,
    },
  });
  const post = async (init: RequestInit = {}, bindings = {}) =>
    harness.app.request(
      '/pin/?wait=feedback',
      { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(somePin()), ...init },
      bindings,
    );
  const polls = async (more: number) => {
    const until = counts.polls + more;
    while (counts.polls < until) await Bun.sleep(10);
  };
  const handleAll = async () => {
    for (const { partition, end } of await harness.log.partitions()) handled.set(partition, end);
  };
  const quiet = async () => {
    for (let before = -1; before !== counts.polls; await Bun.sleep(500)) before = counts.polls;
  };
  return { harness, handled, post, polls, handleAll, quiet };
};
type Edge = Awaited<ReturnType<typeof openEdge>>;

describe('POST /pin/?wait=feedback', () => {
  let edge: Edge;
  afterEach(() => edge.harness.close());
  const answerOf = async (response: Response) => [response.status, (await response.json()) as Answer] as const;

  test('waits for its own record: what was handled before it does not answer', async () => {
    edge = await openEdge(LONG_MS);
    const first = await edge.harness.post('/pin/', JSON.stringify(somePin()));
    const position = first.headers.get('x-pin-position')?.split('/').map(Number) as [number, number];
    const [partition, offset] = position;
    edge.handled.set(partition, offset + 1);
    let answered = 0;
    // Enough for each partition to have some.
    const posts = Array.from({ length: 12 }, () => edge.post().finally(() => answered++));
    await edge.polls(3);
    expect(answered).toBe(0);
    await edge.handleAll();
    for (const [status, { clean }] of await Promise.all(posts.map(async (post) => answerOf(await post))))
      expect([status, clean]).toEqual([200, true]);
    await edge.quiet();
  });

  const unknowing = [
    ['is late', async () => new Map<number, number>()],
    ['cannot be asked', () => Promise.reject(new Error('away'))],
  ] as const;
  for (const [what, handled] of unknowing) {
    test(`202 with the place of the durable pin when the speed layer ${what}`, async () => {
      edge = await openEdge(SHORT_MS, { feedback: { handled, read: async () => [] } });
      const response = await edge.post();
      const [status, answer] = await answerOf(response);
      expect([status, answer.clean]).toEqual([202, null]);
      expect(answer.reason).toContain('FEEDBACK_WAIT_MS');
      expect(answer.position).toBe(response.headers.get('x-pin-position') as string);
      expect(response.headers.get('x-pin-durability')).toBe('log');
      expect(await edge.harness.recordAt(answer.position)).not.toBeNull();
    });
  }

  test('202 at once for a pin in the spool, which has no place yet', async () => {
    const append = async () => ({ durability: 'spool' as const, positions: null as readonly Position[] | null });
    edge = await openEdge(LONG_MS, { inlet: { append } });
    const response = await edge.post();
    const [status, answer] = await answerOf(response);
    expect([status, answer.clean, answer.position]).toEqual([202, null, null]);
    expect(answer.reason).toContain('spool');
    expect(response.headers.get('x-pin-durability')).toBe('spool');
  });

  test('202 at once when the edge drains', async () => {
    edge = await openEdge(LONG_MS);
    const drain = new AbortController();
    const waiting = edge.post({}, { draining: drain.signal });
    await edge.polls(2);
    drain.abort();
    for (const response of [await waiting, await edge.post({}, { draining: drain.signal })]) {
      const [status, { reason }] = await answerOf(response);
      expect(status).toBe(202);
      expect(reason).toContain('stopped');
    }
  });

  test('takes pins beyond the bound of those that wait, and says so', async () => {
    edge = await openEdge(LONG_MS);
    const waiting: Promise<Response>[] = [];
    let full: Response | null = null;
    while (full === null) {
      const post = edge.post();
      waiting.push(post);
      full = await Promise.race([post, Bun.sleep(waiting.length > 990 ? 100 : 0).then(() => null)]);
    }
    const [status, answer] = await answerOf(full);
    expect(status).toBe(202);
    expect(answer.reason).toBe('1000 requests wait for feedback already');
    expect(await edge.harness.recordAt(answer.position)).not.toBeNull();
    expect(waiting).toHaveLength(1001);
    await edge.handleAll();
    const answers = await Promise.all(waiting);
    expect(answers.filter((response) => response.status === 200)).toHaveLength(1000);
    // Their places are free again.
    const after = edge.post();
    await edge.polls(2);
    await edge.handleAll();
    expect((await after).status).toBe(200);
  });

  test('a client that goes away frees its place', async () => {
    edge = await openEdge(LONG_MS);
    const logger = createLogger('silent', 'test');
    const server = startEdge({ app: edge.harness.app, host: '127.0.0.1', port: 0, requestTimeoutMs: LONG_MS, logger });
    const client = new AbortController();
    const post = fetch(`${server.url}/pin/?wait=feedback`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify(somePin()),
      signal: client.signal,
    });
    post.catch(() => {});
    await edge.polls(2);
    client.abort();
    // Nobody is left to poll for.
    await edge.quiet();
    expect(await edge.harness.count()).toBe(1);
    await server.stop(0);
  });

  test('a wrong pin is refused as ever, and a wrong "wait" before anything is stored', async () => {
    edge = await openEdge(LONG_MS);
    expect((await edge.post({ body: '{}' })).status).toBe(422);
    const response = await edge.harness.post('/pin/?wait=clean', JSON.stringify(somePin()));
    expect(response.status).toBe(400);
    expect(((await response.json()) as ErrorBody).error.message).toContain('wait=feedback');
    expect(await edge.harness.count()).toBe(0);
  });
});
