import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { openHarness } from '../../edge/fixture.ts';
import { isPinflowError } from '../../errors.ts';
import { createLogger } from '../../logger.ts';
import { type ErrorQuery, errorPins, selectErrorPins } from './error-pins.ts';
import { type Database, openPostgres } from './open.ts';
import type { SpeedPin } from './speed-batch.ts';
import { createSpeedWriter } from './speed-commit.ts';
import { speedPin } from './speed-fixture.ts';

const logger = createLogger('silent', 'test');
const SET_UP_MS = 60_000;
const NOON = Date.UTC(2026, 10, 23, 12) * 1000;
const PINS = 60;
const SOURCES = ['laptop', 'phone', null] as const;

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

const pinOf = (
  n: number,
  receivedAtMicros: number,
  category: string | null,
  errorFields: readonly string[],
): SpeedPin =>
  speedPin({
    uniqueId: id(n),
    receivedAtMicros,
    category,
    errorFields,
    source: SOURCES[n % SOURCES.length] ?? null,
    position: { partition: 0, offset: n },
  });

/** Three of each stamp, ids not in the order of time; every fourth is clean, every sixth has no category. */
const all = Array.from({ length: PINS }, (_, n) =>
  pinOf(
    (n * 37) % PINS,
    NOON + Math.floor(n / 3),
    n % 6 === 0 ? null : `c${n % 2}`,
    n % 4 === 0 ? [] : n % 5 === 0 ? ['title', 'tag_list'] : ['title'],
  ),
);

/** What a page should hold, by the rule and not by SQL. */
const expected = (keep: (pin: SpeedPin) => boolean = () => true): string[] =>
  all
    .filter((pin) => pin.isError && keep(pin))
    .toSorted((a, b) => b.receivedAtMicros - a.receivedAtMicros || (a.uniqueId < b.uniqueId ? 1 : -1))
    .map((pin) => pin.uniqueId);

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`pages of erroneous pins on ${engine.name}`, () => {
    let database: Database;
    beforeAll(async () => {
      database = await engine.open();
      const writer = createSpeedWriter(database);
      await writer.commit({ topic: 'pins', partition: 0, from: null, to: PINS }, writer.prepare(all));
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);

    const ids = async (query: Partial<ErrorQuery>) =>
      (await errorPins(database, { limit: 100, ...query })).map((pin) => pin.uniqueId);

    test('newest first, filtered by time, field and category', async () => {
      expect(await ids({})).toEqual(expected());
      const since = NOON + 10;
      expect(await ids({ sinceMicros: since })).toEqual(expected((pin) => pin.receivedAtMicros >= since));
      expect(await ids({ field: 'tag_list' })).toEqual(expected((pin) => pin.errorFields.includes('tag_list')));
      expect(await ids({ category: 'c1' })).toEqual(expected((pin) => pin.category === 'c1'));
      expect(await ids({ category: '' })).toEqual(expected((pin) => pin.category === null));
      expect(await ids({ category: "c1' or true --" })).toEqual([]);
      expect(await ids({ source: 'phone' })).toEqual(expected((pin) => pin.source === 'phone'));
      expect(await ids({ source: 'nobody' })).toEqual([]);
      expect(await ids({ limit: 4 })).toEqual(expected().slice(0, 4));
    });

    test('GET /errors shows a key what was posted with it, page by page', async () => {
      const API_KEYS = ['laptop:key-of-the-laptop', 'phone:key-of-the-phone'];
      const harness = await openHarness({
        limits: { API_KEYS },
        deps: { errorPins: (query) => errorPins(database, query) },
      });
      for (const source of ['laptop', 'phone']) {
        const headers = { authorization: `Bearer key-of-the-${source}` };
        const seen: string[] = [];
        let cursor: string | null = '';
        while (cursor !== null) {
          const query: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
          const response = await harness.app.request(`/errors?limit=3${query}`, { headers });
          const answer = (await response.json()) as { pins: { unique_id: string }[]; next: string | null };
          seen.push(...answer.pins.map((pin) => pin.unique_id));
          cursor = answer.next;
        }
        expect(seen).toEqual(expected((pin) => pin.source === source));
      }
      await harness.close();
    });

    test('GET /errors pages through each of them once, also within one stamp, while others come', async () => {
      const harness = await openHarness({ deps: { errorPins: (query) => errorPins(database, query) } });
      try {
        const seen: string[] = [];
        let cursor: string | null = '';
        for (let page = 0; cursor !== null; page++) {
          const query: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
          const response = await harness.app.request(`/errors?limit=4${query}`);
          expect(response.status).toBe(200);
          const answer = (await response.json()) as { pins: { unique_id: string }[]; next: string | null };
          expect(answer.pins.length).toBeLessThanOrEqual(4);
          seen.push(...answer.pins.map((pin) => pin.unique_id));
          cursor = answer.next;
          const writer = createSpeedWriter(database);
          const late = pinOf(1000 + page, NOON + 1_000_000 + page, 'later', ['title']);
          const move = { topic: 'pins', partition: 1, from: page === 0 ? null : page, to: page + 1 };
          await writer.commit(move, writer.prepare([late]));
        }
        expect(seen).toEqual(expected());
      } finally {
        await harness.close();
        await database.sql`delete from pins where category = 'later'`;
      }
    });

    test('reads on from a cursor along the index of errors, without sorting what it leaves out', async () => {
      const after = { receivedAtMicros: NOON + 10, uniqueId: id(5) };
      const { sql: text, params } = selectErrorPins(database.db, { limit: 10, after }).toSQL();
      const plan = await database.sql.begin(async (tx) => {
        // So few rows would be read without an index.
        await tx`set local enable_seqscan = off`;
        await tx`set local enable_bitmapscan = off`;
        return tx.unsafe(`explain ${text}`, params as (string | number)[]);
      });
      const lines = plan.map((row) => row['QUERY PLAN']).join('\n');
      expect(lines).toContain('Index Scan Backward using pins_errors');
      expect(lines).toContain('Index Cond: (received_at <=');
      expect(lines).not.toMatch(/->\s+Sort/);
    });

    test('says that Postgres is away', async () => {
      const away = openPostgres({ url: 'postgres://127.0.0.1:1/none', logger, applicationName: 'test' });
      const error = await errorPins(away, { limit: 1 }).catch((thrown: unknown) => thrown);
      expect(isPinflowError(error, 'postgres_unavailable')).toBe(true);
      const harness = await openHarness({ deps: { errorPins: (query) => errorPins(away, query) } });
      const response = await harness.app.request('/errors');
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).not.toBeNull();
      await harness.close();
      await away.close();
    });
  });
}
