import { afterAll, beforeAll, expect, test } from 'bun:test';
import { openOtlpTracing } from './otlp.ts';
import { addParent, traced } from './tracing.ts';

/** Against a receiver of OTLP over HTTP that listens on a real port. */
type Sent = {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly status: { readonly code?: number; readonly message?: string };
};
const sent: Sent[] = [];
let collector: ReturnType<typeof Bun.serve>;

beforeAll(() => {
  collector = Bun.serve({
    port: 0,
    fetch: async (request) => {
      const body = (await request.json()) as { resourceSpans: { scopeSpans: { spans: Sent[] }[] }[] };
      sent.push(...body.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)));
      return Response.json({});
    },
  });
});
afterAll(() => collector.stop(true));

const open = (sampledShare: number) =>
  openOtlpTracing({
    endpoint: `http://127.0.0.1:${collector.port}`,
    headers: {},
    serviceName: 'test',
    sampledShare,
    thread: 'main',
  });

test('a span follows from the trace context it is given, and gives on its own', async () => {
  sent.length = 0;
  const tracing = open(1);
  const first = tracing.span('first', { kind: 'server', parent: 'not a traceparent' });
  expect(first.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
  const second = tracing.span('second', { kind: 'producer', parent: first.traceparent });
  second.end({ error: new Error('it did not work') });
  first.end({ attributes: { pins: 1 } });
  await tracing.close();
  const [one, other] = ['first', 'second'].map((name) => sent.find((span) => span.name === name));
  expect(other).toMatchObject({ traceId: one?.traceId, parentSpanId: one?.spanId });
  expect(other?.status).toEqual({ code: 2, message: 'it did not work' });
});

test('the share says which traces are kept; a caller that has decided is followed', async () => {
  sent.length = 0;
  const tracing = open(0);
  expect(tracing.span('own', { kind: 'server' }).traceparent).toBeNull();
  const caller = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331';
  expect(tracing.span('kept', { kind: 'server', parent: `${caller}-01` }).traceparent).toStartWith('00-0af765');
  expect(tracing.span('left', { kind: 'server', parent: `${caller}-00` }).traceparent).toBeNull();
  await tracing.close();
});

test('each trace in a batch gets a span, up to a bound; a failure is told and thrown on', async () => {
  sent.length = 0;
  const tracing = open(1);
  const parents = new Set<string>();
  const heads = Array.from({ length: 150 }, () => tracing.span('head', { kind: 'server' }).traceparent ?? '');
  for (const traceparent of [...heads, ...heads]) addParent(parents, { traceparent });
  addParent(parents, {});
  expect(parents.size).toBe(100);
  expect(await traced(tracing, 'batch', parents, {}, async () => 7)).toBe(7);
  const failing = traced(tracing, 'failed', parents, {}, () => Promise.reject(new Error('no')));
  expect(await failing.catch((error: Error) => error.message)).toBe('no');
  await tracing.close();
  expect(sent.filter(({ name }) => name === 'batch')).toHaveLength(100);
  expect(sent.filter(({ name, status }) => name === 'failed' && status.code === 2)).toHaveLength(100);
});
