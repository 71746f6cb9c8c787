import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { rowsRead } from '../../../test/fixtures/rows-read.ts';
import { forgetRejected, markObject } from './ledger.ts';
import { beginRebuild, generationOf, raiseGeneration } from './ledger-generations.ts';
import { createOldestPending, type OldestPendingSeconds } from './oldest-pending.ts';
import type { Database } from './open.ts';

const SET_UP_MS = 120_000;
const STORES = ['cassandra', 'scylla'] as const;
const PINS_EACH = 10;
/** Objects a look goes over again, in tests that are about the floor: fewer than there are. */
const RECHECK = 3;
const RECHECK_DEFAULT = 1000;

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`the oldest pending object, on ${engine.name}`, () => {
    let database: Database;
    /** Hours ago, for the next object: each was seen an hour after the one before. */
    let hoursAgo: number;

    beforeAll(async () => {
      database = await engine.open();
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);

    const empty = async () => {
      await database.sql`delete from archive_objects`;
      await database.sql`delete from archive_object_stores`;
      await database.sql`delete from batch_generations`;
      hoursAgo = 10_000;
    };
    beforeEach(empty, SET_UP_MS);

    const keyOf = (partition: number, firstOffset: number) => `pins/${partition}-${firstOffset}`;

    /** As discovery does: what comes goes to the end of the chain. */
    const grow = async (partition: number, objects: number) => {
      const { sql } = database;
      for (let n = 0; n < objects; n++) {
        const [end] =
          await sql`select max(last_offset)::float8 as last from archive_objects where partition = ${partition}`;
        const first = Number(end?.last ?? -1) + 1;
        await sql`insert into archive_objects values (${partition}, ${first}, ${first + PINS_EACH - 1}, ${keyOf(partition, first)},
          ${PINS_EACH}, 100, now() - ${hoursAgo--} * interval '1 hour')`;
      }
    };

    type Mark = { readonly status?: 'done' | 'rejected'; readonly generation?: number };
    /** @param nth object of its chain */
    const mark = (store: string, partition: number, nth: number, { status = 'done', generation = 0 }: Mark = {}) =>
      markObject(database, {
        partition,
        firstOffset: nth * PINS_EACH,
        store,
        runId: 1,
        status,
        pins: PINS_EACH,
        errors: 0,
        rejects: 0,
        reason: status === 'done' ? null : 'truncated',
        generation,
      });
    const markAll = async (store: string, partition: number, objects: number, given: Mark = {}) => {
      for (let n = 0; n < objects; n++) await mark(store, partition, n, given);
    };
    /** Takes a row of progress out of the ledger. */
    const takeOut = (store: string, partition: number, nth: number) =>
      database.sql`delete from archive_object_stores
        where store = ${store} and partition = ${partition} and first_offset = ${nth * PINS_EACH}`;
    const retry = (partition: number, nth: number) => forgetRejected(database, keyOf(partition, nth * PINS_EACH));

    /** Whole hours since the oldest pending object was seen, which name it; 0: none is. */
    const hours = async (oldest: OldestPendingSeconds, store: string) => Math.round((await oldest(store)) / 3600);
    /** The question as it is meant: asked of the whole ledger. */
    const wholeHours = async (store: string) => {
      const [row] = await database.sql`
        select coalesce(round(extract(epoch from clock_timestamp() - min(seen_at)) / 3600), 0)::int as hours
        from archive_objects o where not exists (select from archive_object_stores s where s.partition = o.partition
          and s.first_offset = o.first_offset and s.store = ${store} and s.status <> 'retry')`;
      return row?.hours;
    };

    test('is the first that a store lacks in any chain, each store on its own', async () => {
      const oldest = createOldestPending(database, RECHECK);
      expect(await hours(oldest, 'scylla')).toBe(0);
      await grow(0, 4);
      await grow(2, 4);
      expect(await hours(oldest, 'scylla')).toBe(10_000);
      await markAll('scylla', 0, 4);
      expect(await hours(oldest, 'scylla')).toBe(9996);
      expect(await hours(oldest, 'cassandra')).toBe(10_000);
      await mark('scylla', 2, 0);
      await mark('scylla', 2, 2);
      expect(await hours(oldest, 'scylla')).toBe(9995);
      await mark('scylla', 2, 1);
      await mark('scylla', 2, 3);
      expect(await hours(oldest, 'scylla')).toBe(0);
      expect(await hours(oldest, 'cassandra')).toBe(10_000);
    });

    test('above the floor comes what is new, in a known partition and in a new one', async () => {
      const oldest = createOldestPending(database, RECHECK);
      await grow(1, 6);
      await markAll('scylla', 1, 6);
      expect(await hours(oldest, 'scylla')).toBe(0);
      await grow(0, 1);
      expect(await hours(oldest, 'scylla')).toBe(9994);
      await mark('scylla', 0, 0);
      await grow(1, 1);
      expect(await hours(oldest, 'scylla')).toBe(9993);
    });

    test('a store that is added later lacks all, whatever the others have', async () => {
      const oldest = createOldestPending(database, RECHECK);
      await grow(0, 6);
      await markAll('scylla', 0, 6);
      expect(await hours(oldest, 'scylla')).toBe(0);
      expect(await hours(oldest, 'added')).toBe(10_000);
      await mark('added', 0, 0);
      expect(await hours(oldest, 'added')).toBe(9999);
      expect(await hours(oldest, 'scylla')).toBe(0);
    });

    test('an object below the floor that is to be retried is pending at once, until it is had', async () => {
      const oldest = createOldestPending(database, RECHECK);
      await grow(0, 12);
      await markAll('scylla', 0, 12);
      await takeOut('scylla', 0, 1);
      await mark('scylla', 0, 1, { status: 'rejected' });
      expect(await hours(oldest, 'scylla')).toBe(0);
      await retry(0, 1);
      expect(await hours(oldest, 'scylla')).toBe(9999);
      await mark('scylla', 0, 1);
      expect(await hours(oldest, 'scylla')).toBe(0);
    });

    test('neither a backfill nor a rebuild makes anything pending', async () => {
      const oldest = createOldestPending(database, RECHECK);
      await grow(0, 6);
      await markAll('scylla', 0, 6);
      for (const raise of [raiseGeneration, beginRebuild]) {
        await raise(database, 'scylla');
        expect(await hours(oldest, 'scylla')).toBe(0);
        const { generation } = await generationOf(database, 'scylla');
        await mark('scylla', 0, 2, { generation });
        expect(await hours(oldest, 'scylla')).toBe(0);
      }
      await grow(0, 1);
      expect(await hours(oldest, 'scylla')).toBe(9994);
    });

    test('a row taken out by hand is seen in the same look where the ledger is small, and within a round where it is not', async () => {
      const [small, large] = [createOldestPending(database), createOldestPending(database, RECHECK)];
      const objects = 12;
      await grow(0, objects);
      await markAll('scylla', 0, objects);
      expect([await hours(small, 'scylla'), await hours(large, 'scylla')]).toEqual([0, 0]);
      await takeOut('scylla', 0, 8);
      expect(await hours(small, 'scylla')).toBe(9992);
      const seen: number[] = [];
      for (let look = 0; look <= objects / RECHECK; look++) seen.push(await hours(large, 'scylla'));
      expect(seen).toContain(0);
      expect(seen.at(-1)).toBe(9992);
      await mark('scylla', 0, 8);
      expect([await hours(small, 'scylla'), await hours(large, 'scylla')]).toEqual([0, 0]);
    });

    test('a ledger that was emptied, or comes from a backup, has no floor above its end', async () => {
      const oldest = createOldestPending(database, RECHECK);
      await grow(0, 12);
      await markAll('scylla', 0, 12);
      expect(await hours(oldest, 'scylla')).toBe(0);
      await database.sql`delete from archive_objects where first_offset >= ${8 * PINS_EACH}`;
      await database.sql`delete from archive_object_stores where first_offset >= ${6 * PINS_EACH}`;
      expect(await hours(oldest, 'scylla')).toBe(9994);
      await empty();
      expect(await hours(oldest, 'scylla')).toBe(0);
      await grow(0, 2);
      expect(await hours(oldest, 'scylla')).toBe(10_000);
    });

    test(
      'is what the whole ledger says, whatever happens to it',
      async () => {
        const partition = fc.nat({ max: 1 });
        const store = fc.constantFrom(...STORES);
        const nth = fc.nat({ max: 5 });
        const status = fc.constantFrom('done' as const, 'rejected' as const);
        type Act = { readonly byHand: boolean; readonly act: () => Promise<unknown> };
        const act = <T extends unknown[]>(
          given: fc.Arbitrary<T>,
          work: (...args: T) => Promise<unknown>,
          byHand = false,
        ): fc.Arbitrary<Act> => given.map((args) => ({ byHand, act: () => work(...args) }));
        const { sql } = database;
        const acts = fc.oneof(
          { weight: 3, arbitrary: act(fc.tuple(partition, fc.nat({ max: 4 })), grow) },
          {
            weight: 4,
            arbitrary: act(fc.tuple(store, partition, status), (s, p, as) => markAll(s, p, 8, { status: as })),
          },
          { weight: 2, arbitrary: act(fc.tuple(store, partition, nth), (s, p, n) => mark(s, p, n)) },
          { weight: 2, arbitrary: act(fc.tuple(partition, nth), retry) },
          act(fc.tuple(store), (s) => raiseGeneration(database, s)),
          act(fc.tuple(store, partition, nth), takeOut, true),
          act(
            fc.tuple(partition, nth),
            (p, n) => sql`delete from archive_objects where partition = ${p} and first_offset = ${n * PINS_EACH}`,
            true,
          ),
          act(fc.tuple(store), (s) => sql`delete from archive_object_stores where store = ${s}`, true),
          act(fc.tuple(), empty, true),
        );
        const round = async (oldest: OldestPendingSeconds) => {
          const [{ objects } = { objects: 0 }] = await sql`select count(*)::int as objects from archive_objects`;
          for (const s of STORES) for (let look = 0; look < objects / RECHECK + 2; look++) await oldest(s);
        };
        const check = async (history: readonly Act[]) => {
          await empty();
          const oldest = createOldestPending(database, RECHECK);
          for (const step of history) {
            await step.act();
            if (step.byHand) await round(oldest);
            for (const s of STORES) expect(await hours(oldest, s)).toBe(await wholeHours(s));
          }
        };
        await fc.assert(fc.asyncProperty(fc.array(acts, { minLength: 10, maxLength: 30 }), check), { numRuns: 20 });
      },
      SET_UP_MS,
    );

    test(
      'costs what is new, whatever the age of the archive, also while an old object is pending',
      async () => {
        const objects = 20_000;
        const { sql } = database;
        await sql`insert into archive_objects select n % 3, n, n, 'pins/' || n, 1, 100, now() - interval '1 hour' from generate_series(0, ${objects - 1}) n`;
        for (const s of STORES)
          await sql`insert into archive_object_stores (partition, first_offset, store, run_id, status, pins, errors, rejects)
            select partition, first_offset, ${s}, 1, 'done', 1, 0, 0 from archive_objects`;
        await sql`analyze archive_objects, archive_object_stores`;
        const read = rowsRead(database);
        const oldest = createOldestPending(read.database);
        /** The objects it goes over again and their progress, and a handful of rows for each partition. */
        const aLook = 2 * RECHECK_DEFAULT + 50;
        const look = async (isPending: boolean) => {
          expect((await oldest('scylla')) > 0).toBe(isPending);
          return read.about('archive_objects');
        };
        expect(await look(false)).toBeGreaterThan(objects);
        expect(await look(false)).toBeLessThan(aLook);

        await sql`insert into archive_objects select n % 3, n, n, 'pins/' || n, 1, 100 from generate_series(${objects}::int, ${objects + 9}::int) n`;
        expect(await look(true)).toBeLessThan(aLook);

        await sql`delete from archive_object_stores where first_offset = 0 and store = 'scylla'`;
        for (let n = 0; n <= objects / RECHECK_DEFAULT; n++) await oldest('scylla');
        await read.about('archive_objects');
        expect(await look(true)).toBeLessThan(aLook);
      },
      SET_UP_MS,
    );
  });
}
