import { afterAll, describe, expect, test } from 'bun:test';
import { freshBucket } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { isPinflowError, type PinflowError } from '../errors.ts';
import { blobContract } from './contract.ts';
import { openBlobStore } from './open.ts';
import { openS3BlobStore, S3_LIMITS } from './s3.ts';

const server = await testServer('s3');
const isThere = !('skip' in server);
const config = isThere ? readConfig(await freshBucket(server.settings)) : readConfig({});
const MIB = 1024 * 1024;
const bytes = (text: string) => new TextEncoder().encode(text);
const stops: (() => unknown)[] = [];
afterAll(() => stops.map((stop) => stop()));

/** What a call fails with; a test of an error never passes on none. */
const failure = async (call: Promise<unknown>): Promise<PinflowError> => {
  const error = await call.then(
    () => null,
    (e: unknown) => e,
  );
  if (!isPinflowError(error)) throw new Error(`should have failed with a PinflowError: ${error}`);
  return error;
};

if (isThere) {
  const withPrefix = { ...config, S3_PREFIX: `${config.S3_PREFIX}deep/down/` };
  blobContract('s3', async () => {
    const stores = { store: await openBlobStore(config), other: openS3BlobStore(config) };
    return { ...stores, close: () => Promise.all([stores.store.close(), stores.other.close()]).then(() => {}) };
  });
  blobContract('s3 with S3_PREFIX', async () => {
    const stores = { store: openS3BlobStore(withPrefix), other: openS3BlobStore(withPrefix) };
    return { ...stores, close: () => Promise.all([stores.store.close(), stores.other.close()]).then(() => {}) };
  });
}

describe.skipIf(!isThere)('the S3 object store on a real server', () => {
  test('honours conditions, and S3_PREFIX stands before the keys', async () => {
    const inside = openS3BlobStore({ ...config, S3_PREFIX: `${config.S3_PREFIX}inner/` });
    await inside.put('a/b', bytes('x'), { ifAbsent: true });
    expect(inside.supports.conditionalPut).toBe(true);
    const outside = openS3BlobStore(config);
    expect((await outside.head('inner/a/b'))?.size).toBe(1);
    expect(await Array.fromAsync(inside.list({ prefix: 'a/' }))).toEqual([{ key: 'a/b', size: 1 }]);
  });

  test('a large object goes up in parts, and only the first one stays', async () => {
    const limits = { ...S3_LIMITS, multipartBytes: 6 * MIB, partBytes: 5 * MIB };
    const store = openS3BlobStore(config, limits);
    const large = Uint8Array.from({ length: 11 * MIB }, (_, i) => (i * 2_654_435_761) >>> 24);
    const put = (by: string) => store.put('large', large, { ifAbsent: true, metadata: { by } });
    const outcomes = await Promise.all([put('0'), put('1')]);
    expect(outcomes.toSorted()).toEqual(['created', 'exists']);
    const found = await store.get('large');
    expect(Buffer.compare(found?.bytes ?? new Uint8Array(), large)).toBe(0);
    expect(found?.metadata).toEqual({ by: String(outcomes.indexOf('created')) });
  }, 60_000);

  test.each([
    ['S3_BUCKET', { S3_BUCKET: 'no-such-bucket' }],
    ['AWS_ACCESS_KEY_ID', { AWS_ACCESS_KEY_ID: 'nobody' }],
    ['AWS_SECRET_ACCESS_KEY', { AWS_SECRET_ACCESS_KEY: 'this-is-not-it' }],
    ['AWS_REGION', { AWS_REGION: 'eu-north-1' }],
  ])('names %s when that is what is wrong, and keeps the secret', async (variable, wrong) => {
    const store = openS3BlobStore({ ...config, ...wrong });
    const put = () => store.put('a', bytes('x'), { ifAbsent: true });
    for (const call of [store.check, put, () => store.get('a')]) {
      const error = await failure(call());
      expect(error.code).toBe('blob_unavailable');
      expect(error.retryable).toBe(false);
      expect(error.message).toContain(variable);
      expect(error.message).not.toContain('this-is-not-it');
    }
  });
});

const AT = { S3_BUCKET: 'pins', AWS_ACCESS_KEY_ID: 'pinflow', AWS_SECRET_ACCESS_KEY: 'pinflow-secret' };
const QUICK = { ...S3_LIMITS, attempts: 1, connectMs: 300, requestMs: 300, idleMs: 300 };
const storeAt = (port: number | undefined, limits = QUICK) =>
  openS3BlobStore(readConfig({ ...AT, S3_ENDPOINT: `http://127.0.0.1:${port}` }), limits);

/** A server with faults no real one can be brought to: it keeps objects and answers a conditional put as told. */
const faulty = (onConditional: (taken: boolean, calls: number) => 'store' | number) => {
  const objects = new Map<string, string>();
  let calls = 0;
  const fault = (status: number) => {
    const code =
      { 409: 'ConditionalRequestConflict', 412: 'PreconditionFailed', 501: 'NotImplemented' }[status] ?? 'Other';
    return new Response(`<Error><Code>${code}</Code><Message>as told</Message></Error>`, { status });
  };
  const listening = Bun.serve({
    port: 0,
    fetch: async (request) => {
      const key = new URL(request.url).pathname;
      const stored = objects.get(key);
      if (request.method !== 'PUT')
        return stored !== undefined ? new Response(stored) : new Response(null, { status: 404 });
      const told = request.headers.has('if-none-match') ? onConditional(stored !== undefined, calls++) : 'store';
      if (told !== 'store') return fault(told);
      objects.set(key, await request.text());
      return new Response();
    },
  });
  stops.push(() => listening.stop(true));
  return { store: storeAt(listening.port), objects };
};

describe('the S3 object store and servers that are not as they should be', () => {
  test.each([
    ['rejects If-None-Match', () => 501 as const],
    ['ignores If-None-Match', () => 'store' as const],
  ])('a server that %s: found out once, then it looks before it puts', async (_, onConditional) => {
    const { store, objects } = faulty(onConditional);
    expect(await store.put('a', bytes('first'), { ifAbsent: true })).toBe('created');
    expect(store.supports.conditionalPut).toBe(false);
    expect(await store.put('a', bytes('second'), { ifAbsent: true })).toBe('exists');
    expect(objects.get('/pins/a')).toBe('first');
  });

  test('two conditional writes in each other’s way: it asks again until one has won', async () => {
    const { store } = faulty((taken, calls) => (calls % 3 < 2 ? 409 : taken ? 412 : 'store'));
    expect(await store.put('a', bytes('first'), { ifAbsent: true })).toBe('created');
    expect(store.supports.conditionalPut).toBe(true);
    expect(await store.put('a', bytes('second'), { ifAbsent: true })).toBe('exists');
  });

  test('nobody listens: retryable, and S3_ENDPOINT is named', async () => {
    const closed = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => {} } });
    closed.stop(true);
    const error = await failure(storeAt(closed.port).check());
    expect(error).toMatchObject({ code: 'blob_unavailable', retryable: true });
    expect(error.message).toContain('S3_ENDPOINT');
  });

  test.each([
    ['never answers', ''],
    ['stops in the middle of an object', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc'],
  ])('a server that %s is given up on: retryable', async (_, answer) => {
    const mute = Bun.listen({
      hostname: '127.0.0.1',
      port: 0,
      socket: { data: (socket) => void socket.write(answer) },
    });
    stops.push(() => mute.stop(true));
    expect(await failure(storeAt(mute.port).get('a'))).toMatchObject({ code: 'blob_unavailable', retryable: true });
  });

  test('a web page is not S3', async () => {
    const page = Bun.serve({ port: 0, fetch: () => new Response('<html>welcome</html>') });
    stops.push(() => page.stop(true));
    const error = await failure(storeAt(page.port).check());
    expect(error.retryable).toBe(false);
    expect(error.message).toContain('S3_ENDPOINT');
  });

  test('an overloaded server is retryable', async () => {
    const busy = Bun.serve({ port: 0, fetch: () => new Response('slow down', { status: 503 }) });
    stops.push(() => busy.stop(true));
    expect((await failure(storeAt(busy.port).get('a'))).retryable).toBe(true);
  });
});
