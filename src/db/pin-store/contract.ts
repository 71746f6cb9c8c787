import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { NULLS, pinRow } from './contract-rows.ts';
import type { PinRow, PinStore, PinVersion } from './pin-store.ts';

/** What every pin store promises, as tests: one row of a table per adapter, `pinStoreContract('sqlite', () => openSqlitePinStore(...))`. */
export type OpenPinStore = () => PinStore;

/** A real server under load may take its time; no test waits for time to pass. */
const TIMEOUT_MS = 120_000;
const MANY_ROWS = 5000;

const CASES: Readonly<Record<string, Partial<PinRow>>> = {
  'every field set': {},
  'every field null that may be': NULLS,
  'the largest follower count': { followerCount: 9_223_372_036_854_775_807n },
  'a follower count of 2^53 + 1': { followerCount: 9_007_199_254_740_993n },
  'no followers': { followerCount: 0n },
  'the outermost integers': { indexNo: -2_147_483_648, downloaded: 2_147_483_647 },
  'empty texts': { title: '', description: '', saveLocation: '' },
  'every script, emoji and quotes': {
    title: 'naïve 東京 ✨👩‍👩‍👧 \'"`$;--\\ \u0000\u202e',
    tagList: ['ünï', '🙂', 'a,b', '"'],
  },
  'a text of 1 MiB': { description: 'ß'.repeat(512 * 1024) },
  '10,000 tags': { tagList: Array.from({ length: 10_000 }, (_, i) => `tag ${i}`) },
  'a stamp of whole milliseconds': { receivedAtMicros: 1_795_458_000_123_000, writeTimestamp: 1_795_458_000_123_042 },
  'a stamp from before 1970': { receivedAtMicros: -1, writeTimestamp: -1 },
  'a stamp of the largest exact number': { receivedAtMicros: 9_007_199_254_740_991 },
  'an offset beyond 2^53 / 2': { position: { partition: 999, offset: 5_000_000_000_000_000 } },
};

const roundTrips = (store: () => PinStore) => {
  for (const [name, given] of Object.entries(CASES)) {
    test(
      `gives back ${name}`,
      async () => {
        const row = pinRow(given);
        await store().upsert([row]);
        expect(await store().get(row.uniqueId)).toEqual(row);
      },
      TIMEOUT_MS,
    );
  }

  test(
    'has no row for an id it was never given, and finds ids in upper case',
    async () => {
      const row = pinRow();
      await store().upsert([row]);
      expect(await store().get(crypto.randomUUID())).toBeNull();
      expect(await store().get('no id at all')).toBeNull();
      expect(await store().get(row.uniqueId.toUpperCase())).toEqual(row);
    },
    TIMEOUT_MS,
  );

  test(
    'takes an empty call, and one with small and large rows mixed',
    async () => {
      await store().upsert([]);
      const rows = Array.from({ length: 100 }, (_, i) =>
        pinRow({ description: 'x'.repeat(i % 10 === 0 ? 60_000 : i) }),
      );
      await store().upsert(rows);
      for (const row of rows) expect(await store().get(row.uniqueId)).toEqual(row);
    },
    TIMEOUT_MS,
  );
};

const versionsOfOneId = (store: () => PinStore) => {
  test(
    'changes nothing when rows come again',
    async () => {
      const rows = [pinRow(), pinRow(NULLS)];
      for (let i = 0; i < 3; i++) await store().upsert(rows);
      for (const row of rows) expect(await store().get(row.uniqueId)).toEqual(row);
    },
    TIMEOUT_MS,
  );

  test(
    'keeps the version with the highest write timestamp, in whatever order and however often they come',
    async () => {
      const fields = fc.record({
        title: fc.option(fc.string({ unit: 'grapheme' })),
        tagList: fc.option(fc.array(fc.string({ unit: 'grapheme' }), { minLength: 1 })),
      });
      const arrivals = fc.array(fields, { minLength: 1, maxLength: 4 }).chain((versions) => {
        const twice = [...versions.keys(), ...versions.keys()];
        const order = fc.shuffledSubarray(twice, { minLength: twice.length });
        return fc.record({ versions: fc.constant(versions), order });
      });
      const property = fc.asyncProperty(arrivals, async ({ versions, order }) => {
        const uniqueId = crypto.randomUUID();
        const rows = versions.map((version) => pinRow({ ...version, uniqueId }));
        for (const i of order) await store().upsert([rows[i] as PinRow]);
        expect(await store().get(uniqueId)).toEqual(rows.at(-1) as PinRow);
      });
      await fc.assert(property, { numRuns: 25 });
    },
    TIMEOUT_MS,
  );

  test(
    'overwrites values by the nulls of a newer version, and nulls by values',
    async () => {
      const first = pinRow();
      const second = pinRow({ ...NULLS, uniqueId: first.uniqueId });
      const third = pinRow({ uniqueId: first.uniqueId });
      for (const row of [first, second, third]) {
        await store().upsert([row]);
        expect(await store().get(first.uniqueId)).toEqual(row);
      }
      for (const row of [second, first]) await store().upsert([row]);
      expect(await store().get(first.uniqueId)).toEqual(third);
    },
    TIMEOUT_MS,
  );
};

const generations = (store: () => PinStore) => {
  test(
    'of one version the higher generation stays, whatever the order; an update is above both',
    async () => {
      const old = pinRow();
      const better = { ...old, title: 'by better rules', followerCount: null, tagList: ['a'] };
      await store().upsert([old], 0);
      await store().upsert([better], 1);
      await store().upsert([old], 0);
      expect(await store().get(old.uniqueId)).toEqual(better);
      // The very next microsecond, by a writer that has not heard of the rebuild, and then by one that has.
      const update = pinRow({ uniqueId: old.uniqueId, writeTimestamp: old.writeTimestamp + 1, title: null });
      await store().upsert([update], 1);
      await store().upsert([better], 1);
      expect(await store().get(old.uniqueId)).toEqual(update);
      const values = { ...update, title: 'z', tagList: null };
      for (const generation of [3, 2]) await store().upsert([generation === 3 ? values : update], generation);
      expect(await store().get(old.uniqueId)).toEqual(values);
    },
    TIMEOUT_MS,
  );

  test(
    'a sweep removes what is of older generations, and nothing that was written since',
    async () => {
      const rows = Array.from({ length: 300 }, () => pinRow());
      const [kept, gone] = [rows.slice(0, 200), rows.slice(200)];
      await store().upsert(rows, 4);
      await store().upsert(kept, 5);
      expect(await store().sweep(5, AbortSignal.abort())).toBeNull();
      expect(await store().sweep(5)).toBeGreaterThanOrEqual(100);
      expect(await store().sweep(5)).toBe(0);
      expect(await store().count()).toBe(200);
      for (const row of kept) expect(await store().get(row.uniqueId)).toEqual(row);
      // What was removed may come back: by the archive, at the generation of now.
      await store().upsert(gone, 5);
      expect(await store().get(gone[0]?.uniqueId ?? '')).toEqual(gone[0] as PinRow);
    },
    TIMEOUT_MS,
  );
};

const wholeStore = (store: () => PinStore) => {
  const allVersions = async (): Promise<ReadonlyMap<string, number>> => {
    const found: PinVersion[] = [];
    for await (const batch of store().versions()) found.push(...batch);
    const byId = new Map(found.map((version) => [version.uniqueId, version.writeTimestamp]));
    expect(byId.size).toBe(found.length);
    return byId;
  };

  test(
    `counts and lists ${MANY_ROWS} more rows, each id once with its write timestamp`,
    async () => {
      const before = await allVersions();
      expect(await store().count()).toBe(before.size);
      const rows = Array.from({ length: MANY_ROWS }, (_, i) => pinRow(i % 3 === 0 ? NULLS : {}));
      await store().upsert(rows);
      const newer = rows.slice(0, 10).map((row) => ({ ...row, writeTimestamp: row.writeTimestamp + 1_000_000 }));
      await store().upsert(newer);
      const expected = new Map([...before, ...[...rows, ...newer].map((r) => [r.uniqueId, r.writeTimestamp] as const)]);
      expect(await allVersions()).toEqual(expected);
      expect(await store().count()).toBe(before.size + MANY_ROWS);
    },
    TIMEOUT_MS,
  );
};

/** @param open a store over one and the same place at each call; `migrate` has not run there */
export const pinStoreContract = (name: string, open: OpenPinStore): void => {
  describe(`${name}: the contract of a pin store`, () => {
    let opened: PinStore;
    const store = () => opened;

    beforeAll(() => {
      opened = open();
    });
    afterAll(() => opened.close());

    test(
      'cannot be used before migrate, and says so',
      async () => {
        await expect(opened.check()).rejects.toMatchObject({
          code: 'config',
          message: expect.stringContaining('migrate'),
        });
      },
      TIMEOUT_MS,
    );

    test(
      'migrates in several stores at once, and again',
      async () => {
        const others = [open(), open(), open()];
        await Promise.all([opened, ...others].map((each) => each.migrate()));
        await opened.migrate();
        await opened.check();
        expect(await opened.count()).toBe(0);
        for (const other of others) await other.close();
      },
      TIMEOUT_MS,
    );

    roundTrips(store);
    versionsOfOneId(store);
    wholeStore(store);
    generations(store);

    test(
      'answers SQL where it says so, else says who does',
      async () => {
        const asked = opened.query('select count(*) as n from userposts', 10);
        if (opened.supports.sql) expect((await asked).columns).toEqual(['n']);
        else
          await expect(asked).rejects.toMatchObject({ code: 'query', message: expect.stringContaining('TRINO_URL') });
      },
      TIMEOUT_MS,
    );

    test(
      'refuses calls after close, which may come twice',
      async () => {
        const other = open();
        await other.close();
        await other.close();
        await expect(other.upsert([pinRow()])).rejects.toMatchObject({ code: 'pin_store_unavailable' });
      },
      TIMEOUT_MS,
    );
  });
};
