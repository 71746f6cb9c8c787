import { afterEach, describe, expect, test } from 'bun:test';
import { PinflowError } from '../errors.ts';
import type { DeadLetter } from '../log/dlq.ts';
import type { EdgeDeps, RunDetails } from './deps.ts';
import type { ErrorBody } from './error-response.ts';
import { type Harness, openHarness } from './fixture.ts';

/** The routes behind the dashboard: SQL, runs, dead letters. */
const opened: Harness[] = [];
const open = async (deps: Partial<EdgeDeps> = {}): Promise<Harness> => {
  const harness = await openHarness({ deps });
  opened.push(harness);
  return harness;
};
afterEach(async () => {
  for (const harness of opened.splice(0)) await harness.close();
});

const JSON_TYPE = { 'content-type': 'application/json' };
const codeOf = async (response: Response) => ((await response.json()) as ErrorBody).error.code;
const LETTER: DeadLetter = {
  stage: 'stream',
  reason: 'it is no JSON',
  position: { partition: 0, offset: 4 },
  object: null,
  attempts: 1,
  value: '<b>',
  encoding: 'utf8',
  at: '2026-11-23T22:00:00.000Z',
};

describe('POST from a page of another site', () => {
  const foreign: readonly Readonly<Record<string, string>>[] = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://evil.example' },
    { origin: 'http://localhost:9999' },
    { origin: 'null' },
  ];
  for (const headers of foreign) {
    for (const path of ['/sql', '/dlq']) {
      test(`${path} with ${JSON.stringify(headers)} is 403 and asks nothing`, async () => {
        const never = () => Promise.reject(new Error('asked'));
        const { post } = await open({ query: never, letters: { list: never, show: never, resolve: never } });
        const response = await post(path, '{}', { ...JSON_TYPE, host: 'localhost:8000', ...headers });
        expect([response.status, await codeOf(response)]).toEqual([403, 'forbidden']);
      });
    }
  }
  test('a form cannot ask either', async () => {
    const { post } = await open();
    expect((await post('/sql', 'sql=select', { 'content-type': 'text/plain' })).status).toBe(415);
  });
});

describe('POST /sql', () => {
  const ask = (edge: Harness, body: unknown) =>
    edge.post('/sql', JSON.stringify(body), { ...JSON_TYPE, host: 'localhost:8000', origin: 'http://localhost:8000' });

  test('answers columns and rows; a huge value is cut', async () => {
    const asked: unknown[] = [];
    const edge = await open({
      query: async (...question) => {
        asked.push(question);
        return { columns: ['a', 'b'], rows: [['x'.repeat(5000), ['y'.repeat(5000)]]], truncated: true };
      },
    });
    const answer = (await (await ask(edge, { view: 'batch', sql: 'select 1' })).json()) as { rows: string[][] };
    expect(asked).toEqual([['batch', 'select 1']]);
    expect(answer).toMatchObject({ columns: ['a', 'b'], truncated: true });
    expect(answer.rows[0]?.map((cell) => cell.length)).toEqual([2001, 2001]);
  });

  test('a statement that is wrong is 400 with the reason, an engine that is away 503', async () => {
    const failing = (error: PinflowError) => open({ query: () => Promise.reject(error) });
    const wrong = await ask(await failing(new PinflowError('query', 'no such table')), { view: 'speed', sql: 'x' });
    expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining('no such table')]);
    const away = await ask(await failing(new PinflowError('postgres_unavailable', 'away')), {
      view: 'speed',
      sql: 'x',
    });
    expect(away.status).toBe(503);
  });

  const malformed: readonly unknown[] = [
    null,
    [],
    'x',
    {},
    { view: 'speed' },
    { view: 'other', sql: 'x' },
    { view: 'batch', sql: 1 },
  ];
  for (const body of malformed) {
    test(`${JSON.stringify(body)} is 400`, async () => {
      expect((await ask(await open(), body)).status).toBe(400);
    });
  }

  test('two run at once, a third is 429; one that failed makes room', async () => {
    const gate = Promise.withResolvers<never>();
    const edge = await open({ query: () => gate.promise });
    const running = [ask(edge, { view: 'batch', sql: 'x' }), ask(edge, { view: 'speed', sql: 'x' })];
    await Bun.sleep(0);
    const third = await ask(edge, { view: 'speed', sql: 'x' });
    expect([third.status, await codeOf(third)]).toEqual([429, 'rate_limited']);
    gate.reject(new PinflowError('query', 'ended'));
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([400, 400]);
    expect((await ask(edge, { view: 'speed', sql: 'x' })).status).toBe(400);
  });

  test('60 a minute, and again after it', async () => {
    let now = 0;
    const edge = await open({ clock: { now: () => now } });
    const statuses = async (n: number) => {
      const all: number[] = [];
      for (let i = 0; i < n; i++) all.push((await ask(edge, { view: 'speed', sql: 'x' })).status);
      return all;
    };
    expect(new Set(await statuses(60))).toEqual(new Set([200]));
    expect(await statuses(1)).toEqual([429]);
    now = 61_000;
    expect(await statuses(1)).toEqual([200]);
  });
});

describe('GET /runs/:id', () => {
  const details: RunDetails = {
    run: {
      id: 7,
      reason: 'cron',
      status: 'done',
      startedAt: 'a',
      endedAt: 'b',
      objects: 1,
      pins: 2,
      errors: 0,
      rejects: 0,
      bytes: 9,
      error: null,
    },
    objects: [{ key: 'pins/x', store: 'embedded', status: 'done', pins: 2, errors: 0, rejects: 0, reason: null }],
    truncated: false,
  };
  test('shows a run; what the ledger does not have, or no number, is 404', async () => {
    const { app } = await open({ run: async (id) => (id === 7 ? details : null) });
    expect(await (await app.request('/runs/7')).json()).toEqual(details);
    for (const id of ['8', '-7', '7e0', 'x', '9'.repeat(40), '%00'])
      expect([id, (await app.request(`/runs/${id}`)).status]).toEqual([id, 404]);
    expect((await app.request('/runs/7', { method: 'POST' })).headers.get('allow')).toBe('GET, HEAD, OPTIONS');
  });
});

describe('/dlq', () => {
  const lettersOf = (resolved: unknown[]): EdgeDeps['letters'] => ({
    list: async () => ({ total: 1, letters: [{ ...LETTER, id: 'stream:0/4' }] }),
    show: async (id) => (id === 'stream:0/4' ? LETTER : null),
    resolve: async (ids, action) => {
      resolved.push([ids, action]);
      return ids.length;
    },
  });

  test('lists, shows one, retries and drops', async () => {
    const resolved: unknown[] = [];
    const { app, post } = await open({ letters: lettersOf(resolved) });
    expect(await (await app.request('/dlq')).json()).toMatchObject({ total: 1, letters: [{ id: 'stream:0/4' }] });
    expect(await (await app.request('/dlq?id=stream%3A0%2F4')).json()).toEqual(LETTER);
    expect((await app.request('/dlq?id=other')).status).toBe(404);
    for (const action of ['retry', 'drop']) {
      const response = await post('/dlq', JSON.stringify({ action, ids: ['stream:0/4'] }));
      expect(await response.json()).toEqual({ action, letters: 1 });
    }
    expect(resolved).toEqual([
      [['stream:0/4'], 'retry'],
      [['stream:0/4'], 'drop'],
    ]);
  });

  const malformed = [
    {},
    { action: 'retry' },
    { action: 'drop', ids: [] },
    { action: 'drop', ids: [1] },
    { action: 'x', ids: ['a'] },
  ];
  for (const body of malformed) {
    test(`POST ${JSON.stringify(body)} is 400 and changes nothing`, async () => {
      const resolved: unknown[] = [];
      const { post } = await open({ letters: lettersOf(resolved) });
      expect((await post('/dlq', JSON.stringify(body))).status).toBe(400);
      expect(resolved).toEqual([]);
    });
  }
});
