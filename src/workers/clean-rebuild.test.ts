import { Database } from 'bun:sqlite';
import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import type { BlobStore } from '../blob/blob.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import { recentRuns } from '../db/postgres/ledger.ts';
import { generationOf } from '../db/postgres/ledger-generations.ts';
import { stepsOfRun } from '../db/postgres/ledger-steps.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { objectCounter } from './clean-count.ts';
import type { CrashOrder } from './clean-crash-child.ts';
import { dryRun } from './clean-dry-run.ts';
import {
  idOf,
  NOON_MICROS,
  openWorkshop,
  pinLine,
  pinLines,
  putObject,
  type TestDatabase,
  tableOf,
  useWorkshop,
  type Workshop,
} from './clean-fixture.ts';
import { hoursBetween } from './clean-hours.ts';
import { createRetrying } from './clean-retry.ts';

let postgres: TestDatabase;
let shop: Workshop;
useWorkshop((opened) => {
  ({ postgres, shop } = opened);
});

const OBJECTS = 50;
const PINS_EACH = 20;
const DAY_MICROS = 86_400e6;

const fillArchive = async () => {
  for (let n = 0; n < OBJECTS; n++) {
    await putObject(shop.store, 0, n * PINS_EACH, pinLines(n * PINS_EACH, PINS_EACH));
  }
};

/** What a person does to the table by mistake. */
const byHand = (statement: string) => {
  const db = new Database(join(shop.dir, 'pin-store.sqlite'));
  db.run('PRAGMA busy_timeout = 10000');
  db.run(statement);
  db.close();
};

const SEEMS_GOOD = 'rows that a wrong rule or a wrong hand made';
const damage = () => {
  byHand(`UPDATE userposts SET title = '${SEEMS_GOOD}' WHERE index_no < 500`);
  byHand('DELETE FROM userposts WHERE index_no >= 900');
};

describe('a rebuild', () => {
  test('makes every row anew from the archive and removes what is in no object', async () => {
    await fillArchive();
    await shop.cleaner().runNow('cron');
    const before = await tableOf(shop.pinStore);
    damage();
    byHand(`INSERT INTO userposts SELECT 'ffffffff-0000-4000-8000-000000000000', received_at, category, index_no, title,
      description, follower_count, tag_list, is_image_or_video, image_src, downloaded, save_location, poster_name, is_error,
      error_fields, write_ts, log_partition, log_offset, generation FROM userposts LIMIT 1`);
    expect(await tableOf(shop.pinStore)).not.toEqual(before);
    const summary = await shop.cleaner().runNow('rebuild');
    expect(summary).toMatchObject({ reason: 'rebuild', status: 'done', objects: OBJECTS, pins: OBJECTS * PINS_EACH });
    expect(await tableOf(shop.pinStore)).toEqual(before);
    expect(await generationOf(postgres.database, 'embedded')).toEqual({ generation: 1, completed: 1 });
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ objects: 0 });
    expect(await shop.cleaner().runNow('rebuild')).toMatchObject({ status: 'done', objects: OBJECTS });
    expect(await generationOf(postgres.database, 'embedded')).toEqual({ generation: 2, completed: 2 });
  });

  test('fills a table that was emptied by hand', async () => {
    await fillArchive();
    await shop.cleaner().runNow('cron');
    byHand('DELETE FROM userposts');
    await shop.cleaner().runNow('rebuild');
    expect(await shop.pinStore.count()).toBe(OBJECTS * PINS_EACH);
  });

  test('readers see every pin at every moment, and new pins are cleaned in the middle', async () => {
    await fillArchive();
    await shop.cleaner().runNow('cron');
    const late = { title: 'posted during the rebuild', receivedAtMicros: NOON_MICROS + DAY_MICROS };
    let counted = Number.POSITIVE_INFINITY;
    let seenAfter = 0;
    let steps = 0;
    const upsert: PinStore['upsert'] = async (rows, generation) => {
      await shop.pinStore.upsert(rows, generation);
      counted = Math.min(counted, await shop.pinStore.count());
      steps++;
      if (steps === 5) await putObject(shop.store, 0, OBJECTS * PINS_EACH, [pinLine(3, late), pinLine(5000)]);
      if (rows.some((row) => row.indexNo === 5000)) seenAfter = steps;
    };
    const summary = await shop.cleaner({ pinStores: [{ ...shop.pinStore, upsert }] }).runNow('rebuild');
    expect(summary).toMatchObject({ status: 'done', objects: OBJECTS + 1 });
    expect(counted).toBe(OBJECTS * PINS_EACH);
    expect(seenAfter).toBeGreaterThan(5);
    expect(seenAfter).toBeLessThan(OBJECTS);
    expect((await shop.pinStore.get(idOf(3)))?.title).toBe(late.title);
    expect(await shop.pinStore.count()).toBe(OBJECTS * PINS_EACH + 1);
  });

  test('of one store leaves the other alone', async () => {
    await fillArchive();
    const both = shop.cleaner({ pinStores: [shop.pinStore, shop.secondStore] });
    await both.runNow('cron');
    expect(await both.runNow('rebuild', { stores: ['scylla'] })).toMatchObject({ status: 'done', objects: OBJECTS });
    expect(await generationOf(postgres.database, 'embedded')).toEqual({ generation: 0, completed: 0 });
    expect(await generationOf(postgres.database, 'scylla')).toEqual({ generation: 1, completed: 1 });
    expect(await both.runNow('rebuild', { stores: ['elsewhere'] })).toMatchObject({
      status: 'failed',
      error: expect.stringContaining('"elsewhere"'),
    });
  });

  test('over an archive that cannot be read whole removes nothing', async () => {
    await fillArchive();
    await shop.cleaner().runNow('cron');
    let broken = '';
    const get: BlobStore['get'] = async (key) => {
      const found = await shop.store.get(key);
      if (!key.startsWith('pins/') || found === null) return found;
      if (broken === '') broken = key;
      return key === broken ? { ...found, bytes: new Uint8Array(3) } : found;
    };
    const summary = await shop.cleaner({ store: { ...shop.store, get } }).runNow('rebuild');
    expect(summary).toMatchObject({ status: 'failed', error: expect.stringContaining('rows of before are kept') });
    expect(await shop.pinStore.count()).toBe(OBJECTS * PINS_EACH);
  });

  test('over an archive that is not there removes nothing', async () => {
    await fillArchive();
    await shop.cleaner().runNow('cron');
    await postgres.database.sql`delete from archive_object_stores`;
    await postgres.database.sql`delete from archive_objects`;
    const empty = await openWorkshop(postgres.database);
    await shop.cleaner({ store: empty.store }).runNow('rebuild');
    expect(await shop.pinStore.count()).toBe(OBJECTS * PINS_EACH);
    await empty.close();
  });
});

const CHILD = Bun.fileURLToPath(new URL('./clean-crash-child.ts', import.meta.url));
const KILLED = 137;

test.each([
  ['objects discovered', 1],
  ['object upserted', 7],
  ['object marked', 30],
] as const)('a rebuild killed at "%s", time %d, is completed by the next run, whatever it is', async (point, times) => {
  await fillArchive();
  await shop.cleaner().runNow('cron');
  const before = await tableOf(shop.pinStore);
  damage();
  const order: CrashOrder = { url: postgres.url, dir: shop.dir, point, times, reason: 'rebuild' };
  const child = Bun.spawn([process.execPath, CHILD, JSON.stringify(order)], { stdout: 'ignore', stderr: 'inherit' });
  expect(await child.exited).toBe(KILLED);
  await postgres.database.sql`update leases set expires_at = clock_timestamp()`;
  await putObject(shop.store, 0, OBJECTS * PINS_EACH, [pinLine(5000)]);
  expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done' });
  const after = new Map(await tableOf(shop.pinStore));
  expect(after.delete(idOf(5000))).toBe(true);
  expect(after).toEqual(new Map(before));
  expect(await generationOf(postgres.database, 'embedded')).toEqual({ generation: 1, completed: 1 });
});

describe('a backfill', () => {
  const fillDays = async () => {
    for (let day = 0; day < 4; day++) {
      const lines = Array.from({ length: 10 }, (_, n) =>
        pinLine(day * 10 + n, { receivedAtMicros: NOON_MICROS + day * DAY_MICROS + n }),
      );
      await putObject(shop.store, 0, day * 10, lines);
    }
    await shop.cleaner().runNow('cron');
  };

  test('does some days anew, above what stands there, and leaves the others', async () => {
    await fillDays();
    byHand(`UPDATE userposts SET title = 'wrong'`);
    const hours = hoursBetween('2026-11-24', '2026-11-25');
    const summary = await shop.cleaner().runNow('backfill', { hours });
    expect(summary).toMatchObject({ reason: 'backfill', status: 'done', objects: 2, pins: 20 });
    const titles = [...(await tableOf(shop.pinStore)).values()].map((row) => row.title === 'wrong');
    expect(titles.filter(Boolean)).toHaveLength(20);
    expect((await shop.pinStore.get(idOf(10)))?.title).toBe('title 10');
    const [run] = await recentRuns(postgres.database, 1);
    expect([run?.windowFrom, run?.windowTo].map((at) => new Date(at ?? 0).toISOString())).toEqual([
      '2026-11-24T00:00:00.000Z',
      '2026-11-26T00:00:00.000Z',
    ]);
    expect(await stepsOfRun(postgres.database, summary.id as number, 10)).toMatchObject([
      { firstOffset: 10, store: 'embedded', status: 'done', pins: 10, error: null },
      { firstOffset: 20, store: 'embedded', status: 'done', pins: 10, error: null },
    ]);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ objects: 0 });
  });

  test('that is only tried out writes nothing, and says what it would do', async () => {
    await fillDays();
    await putObject(shop.store, 0, 40, [pinLine(40, { title: 'No Title Data Available' }), 'no pin']);
    const deps = {
      store: shop.store,
      database: postgres.database,
      retrying: createRetrying({ metrics: createMetrics(), logger: createLogger('silent', 'test') }),
      counters: [objectCounter(shop.store), objectCounter(shop.store)],
    };
    const seen: number[] = [];
    const hours = hoursBetween('2026-11-23', '2026-11-23T12');
    const found = await dryRun(deps, hours, ({ pins }) => void seen.push(pins));
    expect(found).toMatchObject({ objects: 2, pins: 11, errors: 1, rejects: 1, damaged: [] });
    expect(found.quality.placeholders).toEqual({ title: { 'No Title Data Available': 1 } });
    expect(seen.sort((a, b) => a - b)).toEqual([1, 10]);
    expect(await shop.pinStore.count()).toBe(40);
    expect(shop.sent()).toBe(0);
    expect(await recentRuns(postgres.database, 10)).toHaveLength(1);
  });

  test.each([
    ['2026-11-31', '2026-12-01'],
    ['yesterday', '2026-12-01'],
    ['2026-11-02', '2026-11-01'],
    ['2026-11-02', undefined],
    ['2026-11-02T25', '2026-11-03'],
  ])('from %j to %j is refused', (from, to) => {
    expect(() => hoursBetween(from, to)).toThrow(/--from|--to/);
  });
});

test('a run over an old, large archive lists a handful of keys, and reads only what is new', async () => {
  const old = 1200;
  const { sql } = postgres.database;
  const entry = await putObject(shop.store, 0, 0, [pinLine(0)]);
  // The ledger and the manifest of an archive of long ago: their objects are never read again.
  const manifest = JSON.parse(
    Buffer.from((await shop.store.get('manifest/0/00000000000000000000.json'))?.bytes ?? []).toString(),
  );
  for (let n = 1; n < old; n++) {
    const key = entry.key.replace(/\d{20}/, String(n).padStart(20, '0'));
    const line = JSON.stringify({ ...manifest, key, firstOffset: n, lastOffset: n });
    await shop.store.put(`manifest/0/${String(n).padStart(20, '0')}.json`, Buffer.from(line), { ifAbsent: true });
  }
  await sql`insert into archive_objects select 0, n, n, 'pins/dt=2020-01-01/hour=00/0-' || n, 1, 100 from generate_series(0, ${old - 1}) n`;
  await sql`insert into archive_object_stores (partition, first_offset, store, run_id, status, pins, errors, rejects)
    select 0, n, 'embedded', 1, 'done', 1, 0, 0 from generate_series(0, ${old - 1}) n`;
  await putObject(shop.store, 0, old, [pinLine(old)]);

  const calls = { lists: 0, keys: 0, folders: 0, gets: 0 };
  const store: BlobStore = {
    ...shop.store,
    list: async function* (options) {
      calls.lists++;
      for await (const info of shop.store.list(options)) {
        calls.keys++;
        yield info;
      }
    },
    folders: (prefix) => {
      calls.folders++;
      return shop.store.folders(prefix);
    },
    get: (key) => {
      calls.gets++;
      return shop.store.get(key);
    },
  };
  const cleaner = shop.cleaner({ store });
  expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 1 });
  // One listing for the partitions, one for the new entry; the entry to know it, the entry to check it, the object.
  expect(calls).toEqual({ lists: 1, keys: 1, folders: 1, gets: 3 });
  await cleaner.runNow('cron');
  expect(calls).toEqual({ lists: 2, keys: 1, folders: 2, gets: 3 });
});
