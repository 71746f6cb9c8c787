import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freshDatabase } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { eventually, type Running, startProgram } from './program.ts';

/** One pin's trace, as a collector gets it from the real program: edge, log, archive and stream, over four threads. */
setDefaultTimeout(120_000);

type Span = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly status: { readonly code?: number };
  readonly thread: string;
};
type Attribute = { readonly key: string; readonly value: { readonly stringValue?: string } };
type Export = {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly Omit<Span, 'thread'>[] }[];
  }[];
};

const SETTLE_MS = 60_000;
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const pin = (await Bun.file(join(import.meta.dir, '../fixtures/seed-pin.json')).json()) as Record<string, unknown>;

const spans: Span[] = [];
const keys = new Set<string | null>();
let collector: ReturnType<typeof Bun.serve>;
let dir: string;
let program: Running;
let dropDatabase = async () => {};

/** A real Postgres is there sooner; the embedded one does where there is none. */
const postgres = await testServer('postgres');
const database = async () => {
  if ('skip' in postgres) return {};
  const { settings, drop } = await freshDatabase(postgres.settings);
  dropDatabase = drop;
  return settings;
};

const take = ({ resourceSpans }: Export) => {
  for (const { resource, scopeSpans } of resourceSpans) {
    const attribute = (name: string) => resource.attributes.find(({ key }) => key === name)?.value.stringValue ?? '';
    expect(attribute('service.name')).toBe('pins-of-test');
    for (const span of scopeSpans.flatMap((scope) => scope.spans))
      spans.push({ ...span, thread: attribute('thread.name') });
  }
};

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-tracing-'));
  collector = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    fetch: async (request) => {
      expect(new URL(request.url).pathname).toBe('/v1/traces');
      keys.add(request.headers.get('x-collector-key'));
      take((await request.json()) as Export);
      return Response.json({});
    },
  });
  program = await startProgram({
    ...(await database()),
    DATA_DIR: dir,
    ARCHIVE_MAX_SECONDS: '1',
    CLEAN_CRON: '*/2 * * * * *',
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-collector-key=secret=1',
    OTEL_SERVICE_NAME: 'pins-of-test',
    OTEL_TRACES_SAMPLER_ARG: '0',
  });
});
afterAll(async () => {
  await program?.kill('SIGKILL');
  collector?.stop(true);
  await dropDatabase();
  rmSync(dir, { recursive: true, force: true });
});

const post = (headers: Readonly<Record<string, string>>) =>
  fetch(`${program.url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ ...pin, unique_id: crypto.randomUUID() }),
  });

test('a request that is traced is followed to the archive and to the speed view', async () => {
  const response = await post({ traceparent: `00-${TRACE_ID}-${CALLER}-01` });
  expect(response.status).toBe(200);
  const named = (name: string) => spans.find((span) => span.name === name && span.traceId === TRACE_ID);
  await eventually('all spans of the trace', SETTLE_MS, async () =>
    named('POST /pin/') && named('append') && named('archive put') && named('stream commit') ? true : null,
  );
  const [request, append] = [named('POST /pin/'), named('append')];
  expect(request).toMatchObject({ parentSpanId: CALLER, thread: 'main' });
  expect(append).toMatchObject({ parentSpanId: request?.spanId, thread: 'main' });
  expect(named('archive put')).toMatchObject({ parentSpanId: append?.spanId, thread: 'archive' });
  expect(named('stream commit')).toMatchObject({ parentSpanId: append?.spanId, thread: 'stream' });
  expect(spans.filter(({ traceId, status }) => traceId === TRACE_ID && (status.code ?? 0) !== 0)).toEqual([]);
  expect([...keys]).toEqual(['secret=1']);
});

test('a request that is not sampled leaves no span and no header', async () => {
  const before = spans.filter(({ name }) => name !== 'batch run').length;
  const response = await post({});
  expect(response.status).toBe(200);
  // Sent after it, so that its spans would have come before these.
  await post({ traceparent: `00-${TRACE_ID.replace('0a', '0b')}-${CALLER}-01` });
  await eventually('the later trace', SETTLE_MS, async () =>
    spans.some(({ traceId, name }) => traceId.startsWith('0b') && name === 'stream commit') ? true : null,
  );
  const after = spans.filter(({ name }) => name !== 'batch run').slice(before);
  expect(after.every(({ traceId }) => traceId.startsWith('0b') || traceId === TRACE_ID)).toBe(true);
});

test('a collector that is away takes nothing from the program, and does not hold up its end', async () => {
  collector.stop(true);
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => post({ traceparent: `00-${TRACE_ID}-${CALLER}-01` })),
  );
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(await program.kill('SIGTERM')).toBe(0);
  expect(program.output()).toContain('drained');
});
