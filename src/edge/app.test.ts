import { afterEach, describe, expect, test } from 'bun:test';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import type { EdgeDeps, Journey, View } from './deps.ts';
import type { ErrorBody } from './error-response.ts';
import { type Harness, openHarness, somePin, someStatus } from './fixture.ts';

const opened: Harness[] = [];
const open = async (...args: Parameters<typeof openHarness>): Promise<Harness> => {
  const harness = await openHarness(...args);
  opened.push(harness);
  return harness;
};
afterEach(async () => {
  for (const harness of opened.splice(0)) await harness.close();
});

const codeOf = async (response: Response) => ((await response.json()) as ErrorBody).error.code;

describe('routes', () => {
  test('an unknown path is 404 in the error shape', async () => {
    const { app } = await open();
    for (const path of ['/nothing', '/pins/a/b', '/pin/x', '/%2e%2e/etc']) {
      const response = await app.request(path);
      expect(response.status).toBe(404);
      expect(await codeOf(response)).toBe('not_found');
    }
  });

  const wrong: readonly (readonly [string, string, string])[] = [
    ['GET', '/pin/', 'POST, OPTIONS'],
    ['DELETE', '/pins', 'POST, OPTIONS'],
    ['PUT', `/pins/${crypto.randomUUID()}`, 'GET, HEAD, OPTIONS'],
    ['POST', '/healthz', 'GET, HEAD, OPTIONS'],
    ['POST', '/', 'GET, HEAD, OPTIONS'],
  ];
  for (const [method, path, allow] of wrong) {
    test(`${method} ${path} is 405 and names what is allowed; OPTIONS says the same`, async () => {
      const { app } = await open();
      const response = await app.request(path, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get('allow')).toBe(allow);
      expect(await codeOf(response)).toBe('method_not_allowed');
      const options = await app.request(path, { method: 'OPTIONS' });
      expect([options.status, options.headers.get('allow')]).toEqual([204, allow]);
      expect(options.headers.get('access-control-allow-origin')).toBeNull();
    });
  }

  test('HEAD answers as GET does, without a body', async () => {
    const { app } = await open();
    for (const path of ['/', '/healthz', '/readyz', '/metrics', '/errors', '/status', '/status/stream']) {
      const response = await app.request(path, { method: 'HEAD' });
      expect([path, response.status, await response.text()]).toEqual([path, 200, '']);
    }
  });

  test('requests are counted by route and status, never by what a client makes up', async () => {
    const edge = await open();
    await edge.app.request('/healthz');
    await edge.app.request(`/pins/${crypto.randomUUID()}`);
    await edge.app.request('/made/up/by/the/client');
    expect(await edge.metric('pinflow_edge_requests_total{route="/healthz",status="200"}')).toBe(1);
    expect(await edge.metric('pinflow_edge_requests_total{route="/pins/:unique_id",status="404"}')).toBe(1);
    expect(await edge.metric('pinflow_edge_requests_total{route="other",status="404"}')).toBe(1);
  });
});

describe('API_KEYS', () => {
  const KEY = 'k'.repeat(20);
  const limits = { API_KEYS: ['first:0123456789abcdef:with-colon', `second:${KEY}`] };
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  const refused: readonly (string | null)[] = [
    null,
    'Bearer',
    'Bearer wrong',
    `Bearer second:${KEY}`,
    `bearer${KEY}`,
    KEY,
    basic(KEY),
    basic(`first:${KEY}`),
    basic(':'),
    `Bearer ${KEY} ${KEY}`,
  ];
  const accepted = [
    `Bearer ${KEY}`,
    `bearer ${KEY}`,
    'Bearer 0123456789abcdef:with-colon',
    basic(`second:${KEY}`),
    basic('first:0123456789abcdef:with-colon'),
  ];
  const ask = (edge: Harness, authorization: string | null, path = '/status', method = 'GET') =>
    edge.app.request(path, { method, headers: authorization === null ? {} : { authorization } });

  for (const authorization of refused) {
    test(`401 for Authorization: ${authorization}`, async () => {
      const response = await ask(await open({ limits }), authorization);
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toContain('Bearer');
      expect(response.headers.get('www-authenticate')).toContain('Basic');
      const body = await response.text();
      expect(body).not.toContain(KEY);
    });
  }
  for (const authorization of accepted) {
    test(`200 for Authorization: ${authorization}`, async () => {
      expect((await ask(await open({ limits }), authorization)).status).toBe(200);
    });
  }

  test('every route but /healthz, /readyz and the page itself, which asks for the key, wants one', async () => {
    const edge = await open({ limits });
    const paths = ['/metrics', '/status', '/status/stream', '/pins/x', '/errors', '/feedback', '/runs/1', '/dlq'];
    for (const path of paths) expect([path, (await ask(edge, null, path)).status]).toEqual([path, 401]);
    for (const path of ['/pin', '/pin/', '/pins', '/sql', '/dlq'])
      expect([path, (await ask(edge, null, path, 'POST')).status]).toEqual([path, 401]);
    for (const path of ['/healthz', '/readyz', '/', '/dashboard.js', '/dashboard.css'])
      expect((await ask(edge, null, path)).status).toBe(200);
    expect(await edge.count()).toBe(0);
  });

  test('with keys, any Host is served', async () => {
    const { app } = await open({ limits });
    const headers = { host: 'pins.example.org', authorization: `Bearer ${KEY}` };
    expect((await app.request('/status', { headers })).status).toBe(200);
  });
});

describe('without keys the Host has to be this machine, against DNS rebinding', () => {
  const hosts: readonly (readonly [string, number])[] = [
    ['localhost', 200],
    ['LOCALHOST:8000', 200],
    ['127.0.0.1:8000', 200],
    ['127.1.2.3', 200],
    ['[::1]:8000', 200],
    ['pins.localhost:8000', 200],
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example:8000', 403],
    ['evil.example:8000', 403],
    ['', 403],
  ];
  for (const [host, status] of hosts) {
    test(`Host ${JSON.stringify(host)} is ${status}`, async () => {
      const edge = await open();
      const headers = { host, 'content-type': 'application/json' };
      expect((await edge.post('/pin/', JSON.stringify(somePin()), headers)).status).toBe(status);
      expect(await edge.count()).toBe(status === 200 ? 1 : 0);
    });
  }
});

describe('health', () => {
  test('/healthz needs no engine', async () => {
    const { app } = await open({ deps: { readiness: () => Promise.reject(new Error('down')) } });
    expect((await app.request('/healthz')).status).toBe(200);
  });

  test('/readyz says which parts are not there and why, while pins are taken', async () => {
    const parts = [
      { part: 'log', ready: true },
      { part: 'stream', ready: false, reason: 'Postgres is starting up' },
    ];
    const edge = await open({ deps: { readiness: async () => parts } });
    const response = await edge.app.request('/readyz');
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual({ ready: false, parts });
    expect((await edge.post('/pin/', JSON.stringify(somePin()))).status).toBe(200);
  });

  test('/metrics is Prometheus text', async () => {
    const edge = await open();
    await edge.post('/pin/', JSON.stringify(somePin()));
    const response = await edge.app.request('/metrics');
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(await response.text()).toContain('pinflow_edge_pins_total{outcome="accepted"} 1\n');
  });
});

const ID = '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35';
const row: PinRow = {
  uniqueId: ID,
  receivedAtMicros: 1_795_457_888_123_456,
  category: 'tattoos',
  indexNo: 7,
  title: null,
  description: 'd',
  followerCount: 9_007_199_254_740_993n,
  tagList: ['one', 'two'],
  isImageOrVideo: 'image',
  imageSrc: 'https://example.org/1.jpg',
  downloaded: 1,
  saveLocation: '/data/tattoos',
  posterName: null,
  isError: true,
  errorFields: ['title'],
  position: { partition: 2, offset: 41 },
  writeTimestamp: 1_795_457_888_123_456,
};
const PRESENT: View<PinRow> = { state: 'present', row };
const ABSENT: View<PinRow> = { state: 'absent' };
const AWAY: View<PinRow> = { state: 'unavailable', reason: 'it is starting up' };

describe('GET /pins/:unique_id', () => {
  const journey =
    (speed: View<PinRow>, batch: View<PinRow>): EdgeDeps['journey'] =>
    async (uniqueId): Promise<Journey> => ({
      uniqueId,
      log: speed.state === 'present' ? { state: 'present', row: speed.row.position } : { state: 'absent' },
      speed,
      batch: [{ store: 'cassandra', view: batch }],
      archive:
        speed.state === 'present'
          ? { state: 'present', row: { key: 'pins/x.ndjson.gz', partition: 2, firstOffset: 40, lastOffset: 50 } }
          : { state: 'absent' },
    });

  test('shows every view, with all digits of a count', async () => {
    const { app } = await open({ deps: { journey: journey(PRESENT, AWAY) } });
    const response = await app.request(`/pins/${ID.toUpperCase()}`);
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain('"follower_count": 9007199254740993,');
    expect(JSON.parse(text)).toMatchObject({
      unique_id: ID,
      log: { state: 'present', position: '2/41' },
      speed_view: {
        state: 'present',
        received_at: new Date(1_795_457_888_123).toISOString().replace('Z', '456Z'),
        position: '2/41',
        is_error: true,
        error_fields: ['title'],
        pin: { unique_id: ID, index: 7, title: null, tag_list: ['one', 'two'], save_location: '/data/tattoos' },
      },
      batch_views: [{ store: 'cassandra', state: 'unavailable', reason: 'it is starting up' }],
      archive: { state: 'present', key: 'pins/x.ndjson.gz', offsets: '2/40-50' },
    });
  });

  const cases: readonly (readonly [string, View<PinRow>, View<PinRow>, number, string | null])[] = [
    ['only the batch view has it', ABSENT, PRESENT, 200, null],
    ['no view has it', ABSENT, ABSENT, 404, 'not_found'],
    ['the speed view cannot be asked', AWAY, ABSENT, 503, 'postgres_unavailable'],
    ['the batch view cannot be asked', ABSENT, AWAY, 503, 'pin_store_unavailable'],
  ];
  for (const [name, speed, batch, status, code] of cases) {
    test(`${name}: ${status}`, async () => {
      const { app } = await open({ deps: { journey: journey(speed, batch) } });
      const response = await app.request(`/pins/${ID}`);
      expect(response.status).toBe(status);
      if (code !== null) expect(await codeOf(response)).toBe(code as never);
    });
  }

  for (const id of ['x', `${ID}0`, `${ID.slice(0, -1)}g`, '%00', "1'%20or%201=1"]) {
    test(`${id} is no UUID: 422, and no store is asked`, async () => {
      const { app } = await open({ deps: { journey: () => Promise.reject(new Error('asked')) } });
      const response = await app.request(`/pins/${id}`);
      expect(response.status).toBe(422);
      expect(await codeOf(response)).toBe('invalid_pin');
    });
  }
});

describe('the dashboard', () => {
  test('its page, style and script are served, with a policy that lets nothing else in', async () => {
    const { app } = await open();
    for (const [path, type, part] of [
      ['/', 'text/html', '<title>pinflow</title>'],
      ['/dashboard.css', 'text/css', '.pipeline'],
      ['/dashboard.js', 'text/javascript', '/status/stream'],
    ] as const) {
      const response = await app.request(path);
      expect(response.headers.get('content-type')).toBe(`${type}; charset=utf-8`);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(response.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(response.headers.get('x-frame-options')).toBe('DENY');
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      expect(await response.text()).toContain(part);
    }
  });

  test('its page loads nothing from elsewhere', async () => {
    const { app } = await open();
    const page = await (await app.request('/')).text();
    const urls = [...page.matchAll(/(?:src|href)="([^"]*)"/g)].map((m) => m[1] ?? '');
    expect(urls.length).toBeGreaterThan(2);
    expect(urls.filter((url) => !/^(\/|#|data:)/.test(url))).toEqual([]);
  });
});

describe('status', () => {
  const status = () => someStatus;
  const run = {
    id: 1,
    status: 'done',
    startedAt: 'a',
    endedAt: 'b',
    objects: 1,
    pins: 2,
    errors: 0,
    rejects: 0,
    error: null,
  };

  test('GET /status is a snapshot; an engine that is down leaves a reason, and what was last known', async () => {
    let up = true;
    const recentRuns = () => (up ? Promise.resolve([run]) : Promise.reject(new Error('Postgres went away')));
    const { app } = await open({ deps: { status, recentRuns } });
    const snapshot = async () => (await app.request('/status')).json();
    expect(await snapshot()).toMatchObject({ ...status(), recentRuns: { rows: [run], problem: null } });
    up = false;
    expect(await snapshot()).toMatchObject({ recentRuns: { rows: [run], problem: 'Postgres went away' } });
  });

  test('GET /status/stream sends snapshots until the client leaves or the server drains', async () => {
    const drain = new AbortController();
    const { app } = await open({ deps: { status } });
    const kept: Request[] = [];
    const bindings = { draining: drain.signal, keepOpen: (request: Request) => kept.push(request) };
    const response = await app.request('/status/stream', {}, bindings);
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    expect(kept).toHaveLength(1);
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const next = async () => new TextDecoder().decode((await reader.read()).value);
    expect(await next()).toMatch(/^retry: \d+\n\nevent: history\ndata: \[\]\n\n$/);
    const first = await next();
    expect([...first.matchAll(/^event: (.*)$/gm)].map((match) => match[1])).toEqual(['status', 'errors', 'runs']);
    expect(JSON.parse(/^event: status\ndata: (.*)$/m.exec(first)?.[1] ?? '')).toMatchObject(status());
    // What has not changed is not sent again.
    expect([...(await next()).matchAll(/^event: (.*)$/gm)].map((match) => match[1])).toEqual(['status']);
    drain.abort();
    for (;;) if ((await reader.read()).done) break;
  });

  test('dashboards are limited in number, and one that leaves makes room', async () => {
    const { app } = await open({ deps: { status } });
    const streams: Response[] = [];
    for (;;) {
      const response = await app.request('/status/stream');
      if (response.status !== 200) {
        expect(response.status).toBe(503);
        break;
      }
      streams.push(response);
    }
    expect(streams.length).toBeGreaterThan(10);
    await streams.pop()?.body?.cancel();
    const again = await app.request('/status/stream');
    expect(again.status).toBe(200);
    for (const stream of [...streams, again]) await stream.body?.cancel();
  });
});
