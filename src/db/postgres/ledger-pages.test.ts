import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { type RowsRead, rowsRead } from '../../../test/fixtures/rows-read.ts';
import type { KnownObject } from './ledger.ts';
import { type Cursor, objectsOfHours, objectTotals, pendingObjects, staleObjects } from './ledger-pages.ts';
import type { Database } from './open.ts';

const SET_UP_MS = 120_000;
const START: Cursor = { partition: -1, firstOffset: -1 };

/** Two weeks of one object a minute, in turn in each partition. */
const OBJECTS = 20_000;
const PARTITIONS = 4;
const CHAIN = OBJECTS / PARTITIONS;
const GENERATION = 3;
const REBUILD_PAGE = 20;
const PENDING_PAGE = 200;
const MIDDLE: Cursor = { partition: 2, firstOffset: OBJECTS / 2 };
const DAY = { fromHour: '2026-01-07/hour=00', toHour: '2026-01-07/hour=23' };
const DAY_OBJECTS = 24 * 60;

/** What `scylla` has: all, one in ten at the newest generation; one in 100 is not to be had yet. */
const lacks = (n: number) => n % 100 === 50;
const isNew = (n: number) => n % 10 === 7;
const idsOf = (objects: readonly KnownObject[]) =>
  objects.map(({ partition, firstOffset }) => [partition, firstOffset]);
const inOrderOfChains = (isMeant: (n: number) => boolean) =>
  Array.from({ length: PARTITIONS }, (_, partition) =>
    Array.from({ length: CHAIN }, (_, i) => i * PARTITIONS + partition)
      .filter(isMeant)
      .map((n) => [partition, n]),
  ).flat();

const fillLedger = async ({ sql }: Database) => {
  await sql`insert into archive_objects
    select n % ${PARTITIONS}::int, n, n, 'pins/' || to_char(timestamp '2026-01-01' + n * interval '1 minute', '"dt="YYYY-MM-DD"/hour="HH24"/"') || n, 1, 100
    from generate_series(0, ${OBJECTS - 1}::int) n`;
  await sql`insert into archive_object_stores (partition, first_offset, store, run_id, status, pins, errors, rejects, generation)
    select partition, first_offset, store, 1, 'done', 1, 0, 0, case when first_offset % 10 = 7 then ${GENERATION}::int else 0 end
    from archive_objects, unnest(array['cassandra', 'scylla']) store where store <> 'scylla' or first_offset % 100 <> 50`;
};

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`pages of the ledger, on ${engine.name}`, () => {
    let database: Database;
    let read: RowsRead;

    beforeAll(async () => {
      database = await engine.open();
      await fillLedger(database);
      read = rowsRead(database);
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);

    type Page = (after: Cursor) => Promise<readonly KnownObject[]>;
    const stale: Page = (after) =>
      staleObjects(read.database, { store: 'scylla', generation: GENERATION, after, limit: REBUILD_PAGE });
    const ofDay: Page = (after) => objectsOfHours(read.database, DAY, after, PENDING_PAGE);
    const pendingOf =
      (store: string): Page =>
      ({ partition, firstOffset }) =>
        pendingObjects(read.database, { partition, store, after: firstOffset, limit: PENDING_PAGE });

    /** All pages, and the rows read for them. */
    const whole = async (page: Page, limit: number, from = START) => {
      const objects: KnownObject[] = [];
      await read.about('archive_objects');
      let rows = 0;
      for (let last = limit; last === limit; ) {
        const found = await page(objects.at(-1) ?? from);
        rows += await read.about('archive_objects');
        objects.push(...found);
        last = found.length;
      }
      return { objects, rows };
    };
    const rowsOfPage = async (page: Page, after: Cursor) => {
      await read.about('archive_objects');
      expect(await page(after)).not.toBeEmpty();
      return read.about('archive_objects');
    };

    /** The embedded Postgres never gets statistics, and a real one some time after the first objects. */
    for (const statistics of ['without', 'with']) {
      describe(`${statistics} statistics`, () => {
        beforeAll(async () => {
          if (statistics === 'with') await database.sql`analyze archive_objects, archive_object_stores`;
        }, SET_UP_MS);

        test('a page of a rebuild costs its objects and their progress, wherever it stands', async () => {
          for (const after of [START, MIDDLE]) expect(await rowsOfPage(stale, after)).toBeLessThan(3 * REBUILD_PAGE);
        });

        test('a page of a store that has nothing of it costs its objects, and so does one of a backfill', async () => {
          expect(await rowsOfPage(pendingOf('added'), { partition: 0, firstOffset: -1 })).toBe(PENDING_PAGE);
          expect(await rowsOfPage(pendingOf('added'), MIDDLE)).toBe(PENDING_PAGE);
          const all: Page = (after) =>
            objectsOfHours(read.database, { fromHour: '2026', toHour: '2027' }, after, PENDING_PAGE);
          expect(await rowsOfPage(all, MIDDLE)).toBe(PENDING_PAGE);
        });

        test('pages of what few objects are go over the chain once, all together', async () => {
          const { objects, rows } = await whole(pendingOf('scylla'), PENDING_PAGE, { partition: 2, firstOffset: -1 });
          expect(idsOf(objects)).toEqual(inOrderOfChains(lacks).filter(([partition]) => partition === 2));
          expect(objects).not.toBeEmpty();
          expect(rows).toBeLessThanOrEqual(2 * CHAIN);
        });

        test('pages of some hours go over the ledger once, all together', async () => {
          const { objects, rows } = await whole(ofDay, PENDING_PAGE);
          const from = 6 * DAY_OBJECTS;
          expect(idsOf(objects)).toEqual(inOrderOfChains((n) => n >= from && n < from + DAY_OBJECTS));
          expect((await objectTotals(database, DAY)).objects).toBe(DAY_OBJECTS);
          expect(rows).toBeLessThanOrEqual(OBJECTS);
        });

        test(
          'pages of a rebuild go over the ledger once, all together',
          async () => {
            const { objects, rows } = await whole(stale, REBUILD_PAGE);
            expect(idsOf(objects)).toEqual(inOrderOfChains((n) => !lacks(n) && !isNew(n)));
            expect(rows).toBeLessThanOrEqual(2 * OBJECTS);
          },
          SET_UP_MS,
        );
      });
    }
  });
}
