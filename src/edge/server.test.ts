import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import { createLogger } from '../logger.ts';
import { type Harness, openHarness, somePin } from './fixture.ts';
import { type Edge, startEdge } from './server.ts';

const DEADLINE_MS = 10_000;
const HOST = '127.0.0.1';
const logger = createLogger('silent', 'test');

/** Milliseconds; a busy machine may be slow, a wrong program waits for ever. */
setDefaultTimeout(30_000);

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

type Served = { readonly edge: Edge; readonly harness: Harness; readonly port: number };

const serve = async (options: Parameters<typeof openHarness>[0] = {}): Promise<Served> => {
  const harness = await openHarness(options);
  const requestTimeoutMs = options.limits?.REQUEST_TIMEOUT_MS ?? 10_000;
  const edge = startEdge({ app: harness.app, host: HOST, port: 0, requestTimeoutMs, logger });
  closing.push(
    () => harness.close(),
    () => edge.stop(0),
  );
  return { edge, harness, port: Number(new URL(edge.url).port) };
};

const until = async (what: string, met: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await met())) {
    if (performance.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await Bun.sleep(5);
  }
};

/** A raw connection: what HTTP clients would not let a test send. */
const dial = async (port: number) => {
  const seen = { text: '', closed: false };
  const socket: Socket = connect(port, HOST);
  socket.on('data', (data) => {
    seen.text += data.toString('latin1');
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    seen.closed = true;
  });
  closing.push(() => socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve));
  const statuses = () => [...seen.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((m) => Number(m[1]));
  return { socket, seen, statuses, send: (bytes: string | Uint8Array) => socket.write(bytes) };
};

const head = (path: string, ...headers: readonly string[]) =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers.join('\r\n')}\r\n\r\n`;
const whole = (body: string, path = '/pin/') => head(path, `Content-Length: ${Buffer.byteLength(body)}`) + body;
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

describe('bodies on the wire', () => {
  test('requests one after the other on one connection are one pin each', async () => {
    const { port, harness } = await serve();
    const client = await dial(port);
    for (let i = 1; i <= 20; i++) {
      client.send(whole(JSON.stringify(somePin())));
      await until(`answer ${i}`, () => client.statuses().length === i && client.seen.text.endsWith('}'));
    }
    expect(new Set(client.statuses())).toEqual(new Set([200]));
    expect(await harness.count()).toBe(20);
  });

  test('pipelined requests are answered in order or cut off, never answered without being kept', async () => {
    const { port, harness } = await serve();
    const pins = Array.from({ length: 20 }, () => somePin());
    const client = await dial(port);
    client.send(pins.map((pin) => whole(JSON.stringify(pin))).join(''));
    await until('an end', () => client.seen.closed || client.statuses().length === pins.length);
    const answered = [...client.seen.text.matchAll(/"unique_id":"([^"]+)"/g)].map((m) => m[1]);
    expect(answered).toEqual(pins.slice(0, answered.length).map((pin) => String(pin.unique_id)));
    await until('the log to have them', async () => (await harness.count()) >= answered.length);
    expect(client.statuses().every((status) => status === 200)).toBe(true);
  });

  test('a chunked body is one body, wherever it is cut', async () => {
    const { port } = await serve();
    const body = JSON.stringify(somePin());
    const client = await dial(port);
    client.send(head('/pin/', 'Transfer-Encoding: chunked') + chunk(body.slice(0, 7)));
    client.send(chunk(body.slice(7, 100)));
    client.send(`${chunk(body.slice(100))}0\r\n\r\n`);
    await until('an answer', () => client.statuses().length === 1);
    expect(client.statuses()).toEqual([200]);
  });

  test('a Content-Length above the limit is 413 before a byte of the body is sent', async () => {
    const { port } = await serve();
    const client = await dial(port);
    client.send(head('/pin/', 'Content-Length: 99999999999'));
    await until('the connection is closed', () => client.seen.closed);
    expect(client.statuses()).toEqual([413]);
    expect(client.seen.text).toContain('"code":"too_large"');
  });

  test('a chunked body is 413 once it passes the limit, however much is still to come', async () => {
    const { port, harness } = await serve({ limits: { MAX_PIN_BYTES: 100_000 } });
    const client = await dial(port);
    client.send(head('/pin/', 'Transfer-Encoding: chunked'));
    client.send(chunk('x'.repeat(100_001)));
    await until('an answer', () => client.statuses().length === 1);
    expect(client.statuses()).toEqual([413]);
    expect(await harness.metric('pinflow_edge_pending_bytes')).toBe(0);
  });

  for (const [name, start] of [
    ['a small declared body', whole(JSON.stringify(somePin())).slice(0, -10)],
    ['a large declared body', `${head('/pin/', 'Content-Length: 1000000')}{`],
    ['a chunked body', `${head('/pin/', 'Transfer-Encoding: chunked')}${chunk('{')}`],
  ] as const) {
    test(`${name} that stops coming is 408, and nothing is appended`, async () => {
      const { port, harness } = await serve({ limits: { REQUEST_TIMEOUT_MS: 150 } });
      const client = await dial(port);
      client.send(start);
      await until('the connection is closed', () => client.seen.closed);
      expect(client.statuses()).toEqual([408]);
      expect(client.seen.text).toContain('"code":"slow_body"');
      expect(await harness.metric('pinflow_edge_pending_bytes')).toBe(0);
      expect(await harness.count()).toBe(0);
    });
  }

  test('a client that goes away in the middle of its body leaves nothing behind', async () => {
    const { port, harness } = await serve();
    const client = await dial(port);
    client.send(whole(JSON.stringify(somePin())).slice(0, -10));
    await until('its bytes are counted', async () => (await harness.metric('pinflow_edge_pending_bytes')) > 0);
    client.socket.destroy();
    await until('its bytes are given back', async () => (await harness.metric('pinflow_edge_pending_bytes')) === 0);
    expect(await harness.count()).toBe(0);
  });

  const lies: readonly (readonly [string, string])[] = [
    ['two lengths', head('/pin/', 'Content-Length: 2', 'Content-Length: 5')],
    ['a length and chunks', head('/pin/', 'Content-Length: 2', 'Transfer-Encoding: chunked')],
    ['a negative length', head('/pin/', 'Content-Length: -1')],
    ['no Host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ];
  for (const [name, request] of lies) {
    test(`${name}: 400 and the connection is closed, so that nothing can be smuggled behind it`, async () => {
      const { port } = await serve();
      const client = await dial(port);
      client.send(`${request}{}`);
      await until('the connection is closed', () => client.seen.closed);
      expect(client.statuses()).toEqual([400]);
    });
  }

  test('a Content-Length shorter than the body cuts the pin: 400, and the rest is no request', async () => {
    const { port, harness } = await serve();
    const body = JSON.stringify(somePin());
    const client = await dial(port);
    client.send(head('/pin/', `Content-Length: ${body.length - 5}`) + body);
    client.socket.end();
    await until('the connection is closed', () => client.seen.closed);
    expect(client.statuses().every((status) => status === 400)).toBe(true);
    expect(await harness.count()).toBe(0);
  });

  test('huge headers are 431', async () => {
    const { port } = await serve();
    const client = await dial(port);
    client.send(head('/pin/', `X-Huge: ${'x'.repeat(200_000)}`));
    await until('the connection is closed', () => client.seen.closed);
    expect(client.statuses()).toEqual([431]);
  });

  test('HTTP/1.0 without a Host is answered, not a 500', async () => {
    const { port } = await serve();
    const client = await dial(port);
    client.send('GET /healthz HTTP/1.0\r\n\r\n');
    await until('the connection is closed', () => client.seen.closed);
    expect(client.statuses()[0]).toBeLessThan(500);
  });

  test('1,000 pins at once on many connections are 1,000 records', async () => {
    const { edge, harness } = await serve();
    const post = () =>
      fetch(`${edge.url}/pin/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(somePin()),
      });
    const statuses = (await Promise.all(Array.from({ length: 1000 }, post))).map((response) => response.status);
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(await harness.count()).toBe(1000);
  });
});

describe('listening', () => {
  test('a taken port is an error that names it and the way out', async () => {
    const { port, harness } = await serve();
    const start = () => startEdge({ app: harness.app, host: HOST, port, requestTimeoutMs: 1000, logger });
    expect(start).toThrow(
      expect.objectContaining({ code: 'in_use', message: expect.stringContaining(`port ${port} `) }),
    );
    expect(start).toThrow(/PORT=0/);
  });

  test('a taken METRICS_PORT is named as such', async () => {
    const { port, harness } = await serve();
    const options = { app: harness.app, host: HOST, port, requestTimeoutMs: 1000, logger };
    expect(() => startEdge({ ...options, portSetting: 'METRICS_PORT' })).toThrow(/set METRICS_PORT to another/);
  });

  test('a port is free again right after stop', async () => {
    const { edge, port, harness } = await serve();
    await fetch(`${edge.url}/healthz`);
    await edge.stop(DEADLINE_MS);
    const again = startEdge({ app: harness.app, host: HOST, port, requestTimeoutMs: 1000, logger });
    closing.push(() => again.stop(0));
    expect((await fetch(`${again.url}/healthz`)).status).toBe(200);
  });

  test('an address that is not of this machine is a config error', async () => {
    const { harness } = await serve();
    expect(() => startEdge({ app: harness.app, host: '192.0.2.1', port: 0, requestTimeoutMs: 1000, logger })).toThrow(
      /HOST/,
    );
  });
});

describe.skipIf(process.platform !== 'linux')('a shared port, on Linux', () => {
  /** Listens on a port, beside others or alone, and says on each answer which one it is. */
  const listen = (name: string, port: number, reusePort: boolean): Edge => {
    const app = { fetch: async () => new Response(name) };
    const edge = startEdge({ app, host: HOST, port, reusePort, requestTimeoutMs: 1000, logger });
    closing.push(() => edge.stop(0));
    return edge;
  };
  /** A new connection. */
  const ask = async ({ url }: Edge) => (await fetch(url, { headers: { connection: 'close' } })).text();
  const portOf = ({ url }: Edge) => Number(new URL(url).port);

  test('connections go to both who ask for it, and all to the one that is left', async () => {
    const first = listen('first', 0, true);
    const second = listen('second', portOf(first), true);
    const seen = new Set<string>();
    await until('both have answered', async () => seen.add(await ask(first)).size === 2);
    await second.stop(DEADLINE_MS);
    const left = await Promise.all(Array.from({ length: 50 }, () => ask(first)));
    expect(new Set(left)).toEqual(new Set(['first']));
  });

  test('who does not ask for it is refused, and who asks where another does not share is told so', () => {
    const shared = portOf(listen('first', 0, true));
    expect(() => listen('second', shared, false)).toThrow(expect.objectContaining({ code: 'in_use' }));
    const alone = portOf(listen('third', 0, false));
    expect(() => listen('fourth', alone, true)).toThrow(
      expect.objectContaining({ code: 'in_use', message: expect.stringMatching(/does not share it.*set PORT/) }),
    );
  });
});

describe('stop', () => {
  /** An edge whose log takes pins only once the gate is open. */
  const serveGated = async () => {
    const gate = Promise.withResolvers<void>();
    const waiting = { pins: 0 };
    const served = await serve({
      append: (log) => (records) => {
        waiting.pins++;
        return gate.promise.then(() => log.append(records));
      },
    });
    return { ...served, gate, waiting };
  };

  test('finishes what is under way, closes idle connections, refuses new ones', async () => {
    const { edge, port, gate, waiting } = await serveGated();
    const idle = await dial(port);
    idle.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await until('the idle one was answered', () => idle.statuses().length === 1);
    const busy = await dial(port);
    busy.send(whole(JSON.stringify(somePin())));
    await until('a pin waits for the log', () => waiting.pins === 1);

    const stopped = edge.stop(DEADLINE_MS);
    const late = connect(port, HOST);
    const refused = await new Promise<boolean>((resolve) => {
      late.once('error', () => resolve(true));
      late.once('connect', () => resolve(false));
    });
    expect(refused).toBe(true);
    expect(busy.statuses()).toEqual([]);
    gate.resolve();
    expect(await stopped).toBe(0);
    await until('both are closed', () => idle.seen.closed && busy.seen.closed);
    expect(busy.statuses()).toEqual([200]);
    expect(await edge.stop(0)).toBe(0);
  });

  test('what does not end within the deadline is cut off and counted', async () => {
    const { edge, port, waiting } = await serveGated();
    const clients = [await dial(port), await dial(port)];
    for (const client of clients) client.send(whole(JSON.stringify(somePin())));
    await until('both pins wait for the log', () => waiting.pins === 2);
    expect(await edge.stop(50)).toBe(2);
    await until('both are closed', () => clients.every((client) => client.seen.closed));
    expect(clients.flatMap((client) => client.statuses())).toEqual([]);
  });

  test.each(['/status/stream', '/feedback'])('open streams of %s do not hold it up', async (path) => {
    const { edge } = await serve();
    const stream = await fetch(`${edge.url}${path}`);
    const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    expect(await edge.stop(DEADLINE_MS)).toBe(0);
    for (;;) if ((await reader.read()).done) break;
  });
});
