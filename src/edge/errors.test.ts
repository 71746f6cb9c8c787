import { afterEach, expect, test } from 'bun:test';
import type { ErrorQuery } from '../db/postgres/error-pins.ts';
import type { RecentError } from './deps.ts';
import { type Harness, openHarness } from './fixture.ts';

const closing: Harness[] = [];
afterEach(async () => {
  for (const harness of closing.splice(0)) await harness.close();
});

const open = async (errorPins: (query: ErrorQuery) => Promise<readonly RecentError[]>) => {
  const harness = await openHarness({ deps: { errorPins } });
  closing.push(harness);
  return harness.app;
};

const pin: RecentError = {
  uniqueId: '00000000-0000-4000-8000-000000000001',
  receivedAt: '2026-11-23T12:00:00.000001Z',
  category: 'art',
  title: 'x'.repeat(1000),
  errorFields: ['follower_count'],
};

test('asks for what the parameters say, one more than a page', async () => {
  const asked: ErrorQuery[] = [];
  const app = await open(async (query) => {
    asked.push(query);
    return [];
  });
  const path = `/errors?since=2026-11-23T12:00:00.000002Z&field=title&category=a%20b%26c&limit=7&cursor=${pin.receivedAt},${pin.uniqueId}`;
  expect(await (await app.request(path)).json()).toEqual({ pins: [], next: null });
  const noon = Date.UTC(2026, 10, 23, 12) * 1000;
  expect(asked).toEqual([
    {
      sinceMicros: noon + 2,
      field: 'title',
      category: 'a b&c',
      limit: 8,
      after: { receivedAtMicros: noon + 1, uniqueId: pin.uniqueId },
    },
  ]);
});

test('names the wrong fields and why; a long text is cut', async () => {
  const app = await open(async () => [pin, pin]);
  const answer = await (await app.request('/errors?limit=1')).json();
  expect(answer).toEqual({
    pins: [
      {
        unique_id: pin.uniqueId,
        received_at: pin.receivedAt,
        category: 'art',
        title: `${'x'.repeat(500)}…`,
        errors: [{ field: 'follower_count', reason: expect.stringContaining('"User Info Error"') }],
      },
    ],
    next: `${pin.receivedAt},${pin.uniqueId}`,
  });
});

test('a wrong parameter is a 400 that names it', async () => {
  const app = await open(async () => []);
  const cases = [
    ['since=yesterday', 'since'],
    ['since=2026-02-30T00:00:00Z', 'since'],
    ['since=', 'since'],
    ['field=colour', 'field'],
    ['field=constructor', 'field'],
    ['category=%00', 'category'],
    ['limit=0', 'limit'],
    ['limit=501', 'limit'],
    ['limit=1e2', 'limit'],
    ['limit=-1', 'limit'],
    ['cursor=', 'cursor'],
    ['cursor=2026-11-23T12:00:00Z', 'cursor'],
    [`cursor=2026-11-23T12:00:00Z,${pin.uniqueId},x`, 'cursor'],
    [`cursor=x,${pin.uniqueId}`, 'cursor'],
    ['catgory=art', 'catgory'],
    ['field=title&field=category', 'field'],
  ];
  for (const [query, named = ''] of cases) {
    const response = await app.request(`/errors?${query}`);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    expect(error.code).toBe('bad_query');
    expect(error.message).toContain(`"${named}"`);
  }
});

test('at most two look-ups run at once', async () => {
  const gate = Promise.withResolvers<readonly RecentError[]>();
  const app = await open(() => gate.promise);
  const first = [app.request('/errors'), app.request('/errors')];
  expect((await app.request('/errors')).status).toBe(429);
  gate.resolve([]);
  for (const response of first) expect((await response).status).toBe(200);
  expect((await app.request('/errors')).status).toBe(200);
});
