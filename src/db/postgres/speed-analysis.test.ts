import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import type { Database } from './open.ts';
import { createSpeedWriter } from './speed-commit.ts';
import { speedPin } from './speed-fixture.ts';

const SET_UP_MS = 60_000;
const NOON = Date.UTC(2026, 0, 23, 12) * 1000;
const MINUTE = 60_000_000;

const page = await Bun.file(new URL('../../../docs/speed-view.md', import.meta.url)).text();
const documented = [...page.matchAll(/^```sql\n(.*?)^```/gms)].map((match) => match[1] ?? '');

const pinOf = (minute: number, category: string | null, followerCount: bigint | null, errorFields: readonly string[]) =>
  speedPin({ receivedAtMicros: NOON + minute * MINUTE, category, followerCount, errorFields, writeTimestamp: NOON });

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`views for analysis on ${engine.name}`, () => {
    let database: Database;
    beforeAll(async () => {
      database = await engine.open();
      const pins = [
        pinOf(0, 'art', 10n, []),
        pinOf(0.5, 'art', 20n, ['title']),
        pinOf(0.9, 'art', 60n, ['title', 'description']),
        pinOf(1, 'art', null, ['follower_count']),
        pinOf(1, null, 7n, []),
      ];
      const writer = createSpeedWriter(database);
      await writer.commit({ topic: 'pins', partition: 0, from: null, to: 5 }, writer.prepare(pins));
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);

    const rows = async (query: string) => [...(await database.sql.unsafe(query).values())];

    test('pins per minute', async () => {
      expect(await rows('select pins::int4, errors::int4 from pins_per_minute order by minute')).toEqual([
        [3, 2],
        [2, 1],
      ]);
    });

    test('error rates by category and field', async () => {
      const query = 'select category, field, errors::int4, pins::int4, rate from error_rates order by minute, field';
      expect(await rows(query)).toEqual([
        ['art', 'description', 1, 3, 1 / 3],
        ['art', 'title', 2, 3, 2 / 3],
        ['art', 'follower_count', 1, 1, 1],
      ]);
    });

    test('followers by category, the median too', async () => {
      const query =
        'select category, pins::int4, least::int4, median, p90, most::int4 from followers_by_category order by 1';
      expect(await rows(query)).toEqual([
        ['', 1, 7, 7, 7, 7],
        ['art', 3, 10, 20, 52, 60],
      ]);
    });

    test('top categories, the most pins first', async () => {
      expect(await rows('select category, pins::int4, errors::int4 from top_categories')).toEqual([
        ['art', 4, 3],
        ['', 1, 0],
      ]);
    });

    test('every statement of docs/speed-view.md runs', async () => {
      expect(documented.length).toBeGreaterThan(5);
      for (const statement of documented) expect(await rows(statement)).toBeArray();
    });
  });
}
