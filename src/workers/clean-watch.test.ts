import { describe, expect, test } from 'bun:test';
import { rowsRead } from '../../test/fixtures/rows-read.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import { finishRun, recentRuns, startRun } from '../db/postgres/ledger.ts';
import { openAlerts, recentAlerts } from '../db/postgres/ledger-alerts.ts';
import { pruneRuns, setPaused } from '../db/postgres/ledger-schedule.ts';
import { recordStep, stepsOfRun } from '../db/postgres/ledger-steps.ts';
import { PinflowError } from '../errors.ts';
import { createMetrics } from '../metrics.ts';
import { pinLines, putObject, type TestDatabase, useWorkshop, type Workshop } from './clean-fixture.ts';
import type { WatchPolicy } from './clean-watch.ts';
import type { CleanerDeps } from './cleaner.ts';

let postgres: TestDatabase;
let shop: Workshop;
useWorkshop((opened) => {
  ({ postgres, shop } = opened);
});

const MINUTE_MS = 60_000;
const HOURLY = { cron: '0 * * * *', timezone: 'UTC' };
/** Never due while a test runs, whatever the time of the day. */
const LEAP_DAYS = { cron: '0 0 29 2 *', timezone: 'UTC' };
const NOTHING = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };

/** The last full hour before now, and moments around it. */
const lastHour = () => new Date(Math.floor(Date.now() / (60 * MINUTE_MS)) * 60 * MINUTE_MS);
const hoursBefore = (moment: Date, hours: number) => new Date(moment.getTime() - hours * 60 * MINUTE_MS);

/** A clock that can be set: the watch's own, beside the database's. */
const movable = () => {
  let ahead = 0;
  const move = (ms: number) => {
    ahead += ms;
  };
  return { clock: { now: () => Date.now() + ahead }, move };
};

const runsNow = async () =>
  (await recentRuns(postgres.database, 50)).map((run) => `${run.reason} ${run.attempt} ${run.status}`);

const failing = (real: PinStore): { readonly store: PinStore; heal: () => void } => {
  let away = true;
  const migrate = async () => {
    if (away) throw new PinflowError('config', 'not set up');
    await real.migrate();
  };
  return {
    store: { ...real, migrate },
    heal: () => {
      away = false;
    },
  };
};

const cleanerWith = (policy: Partial<WatchPolicy>, deps: Partial<CleanerDeps> = {}) =>
  shop.cleaner({ schedule: HOURLY, policy, ...deps });

describe('retries', () => {
  test('of a cron run that failed come after the wait, and no more than allowed', async () => {
    const time = movable();
    const { store } = failing(shop.pinStore);
    const cleaner = cleanerWith({ retries: 2, retrySeconds: 300 }, { pinStores: [store], clock: time.clock });
    const due = lastHour();
    expect(await cleaner.runNow('cron', { due })).toMatchObject({ status: 'failed', attempt: 1 });
    await cleaner.look();
    expect(await runsNow()).toEqual(['cron 1 failed']);
    time.move(301_000);
    await cleaner.look();
    expect(await runsNow()).toEqual(['retry 2 failed', 'cron 1 failed']);
    // The second wait is twice as long, and counted from the end of the second try.
    time.move(200_000);
    await cleaner.look();
    expect(await runsNow()).toHaveLength(2);
    time.move(200_000);
    await cleaner.look();
    time.move(24 * 60 * MINUTE_MS);
    await cleaner.look();
    expect(await runsNow()).toEqual(['retry 3 failed', 'retry 2 failed', 'cron 1 failed']);
    const [third] = await recentRuns(postgres.database, 1);
    expect(Date.parse(third?.windowTo ?? '')).toBe(due.getTime());
  });

  test('are let go when another run did the work meanwhile', async () => {
    const time = movable();
    const { store, heal } = failing(shop.pinStore);
    const cleaner = cleanerWith({ retries: 1, retrySeconds: 300 }, { pinStores: [store], clock: time.clock });
    await cleaner.runNow('cron', { due: lastHour() });
    heal();
    await cleaner.runNow('manual');
    time.move(301_000);
    await cleaner.look();
    expect(await runsNow()).toEqual(['manual 1 done', 'cron 1 failed']);
  });

  test('of a run whose process died come as soon as its lease is over', async () => {
    await startRun(postgres.database, 'cron', { windowTo: lastHour() });
    const { sql } = postgres.database;
    await sql`insert into leases values ('clean', 'the dead one', clock_timestamp() + interval '1 hour')`;
    const cleaner = cleanerWith({ retries: 1 });
    await cleaner.look();
    expect(await runsNow()).toEqual(['cron 1 running']);
    await sql`update leases set expires_at = clock_timestamp()`;
    await cleaner.look();
    expect(await runsNow()).toEqual(['retry 2 done', 'cron 1 abandoned']);
  });

  test('none when they are turned off', async () => {
    const time = movable();
    const { store } = failing(shop.pinStore);
    const cleaner = cleanerWith({ retries: 0 }, { pinStores: [store], clock: time.clock });
    await cleaner.runNow('cron', { due: lastHour() });
    time.move(60 * MINUTE_MS);
    await cleaner.look();
    expect(await runsNow()).toEqual(['cron 1 failed']);
  });
});

describe('catching up', () => {
  const leftFor = async (hours: number) => {
    const before = hoursBefore(lastHour(), hours);
    const id = await startRun(postgres.database, 'cron', { windowTo: before });
    await finishRun(postgres.database, id, { status: 'done', error: null, ...NOTHING });
    await postgres.database
      .sql`update batch_runs set started_at = ${before.toISOString()}, ended_at = ${before.toISOString()}`;
    return before;
  };

  test('one run makes up for every time that was missed, and only once', async () => {
    const before = await leftFor(5);
    await putObject(shop.store, 0, 0, pinLines(0, 10));
    const time = movable();
    time.move(2 * MINUTE_MS);
    const cleaner = cleanerWith({ catchUp: true }, { clock: time.clock });
    await cleaner.look();
    await cleaner.look();
    const [run, ...rest] = await recentRuns(postgres.database, 10);
    expect(rest).toHaveLength(1);
    expect(run).toMatchObject({ reason: 'catch-up', status: 'done', pins: 10 });
    expect(Date.parse(run?.windowFrom ?? '')).toBe(before.getTime());
    expect(Date.parse(run?.windowTo ?? '')).toBeGreaterThanOrEqual(lastHour().getTime() - 60 * MINUTE_MS);
  });

  test('not unless it is asked for', async () => {
    await leftFor(5);
    await cleanerWith({}).look();
    expect(await runsNow()).toEqual(['cron 1 done']);
  });
});

describe('pausing', () => {
  test('holds cron runs, retries and catching up in every process; a run by hand goes', async () => {
    const time = movable();
    const { store, heal } = failing(shop.pinStore);
    const cleaner = cleanerWith({ retries: 1, catchUp: true }, { pinStores: [store], clock: time.clock });
    await cleaner.runNow('cron', { due: hoursBefore(lastHour(), 3) });
    await setPaused(postgres.database, 'clean', true, 'ada');
    time.move(60 * MINUTE_MS);
    await cleaner.look();
    expect(await shop.cleaner().runNow('cron')).toMatchObject({
      id: null,
      status: 'skipped',
      error: expect.stringContaining('paused by ada'),
    });
    expect(await runsNow()).toEqual(['cron 1 failed']);
    heal();
    expect(await cleaner.runNow('manual')).toMatchObject({ status: 'done' });
    await setPaused(postgres.database, 'clean', false, 'ada');
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done' });
  });
});

test('of many processes that come with one cron time one runs, however far apart they come', async () => {
  const due = lastHour();
  const first = await shop.cleaner({ holder: 'a' }).runNow('cron', { due, since: hoursBefore(due, 1) });
  expect(first).toMatchObject({ status: 'done' });
  expect(await shop.cleaner({ holder: 'b' }).runNow('cron', { due })).toMatchObject({
    status: 'skipped',
    error: expect.stringContaining(`run ${first.id} stands for`),
  });
  expect(await recentRuns(postgres.database, 10)).toMatchObject([{ id: first.id as number, holder: 'a' }]);
});

describe('what is late', () => {
  const alerts = async () => (await openAlerts(postgres.database)).map(({ kind, subject }) => `${kind} ${subject}`);

  test('a missed run raises an alert, which the next run resolves', async () => {
    const time = movable();
    const metrics = createMetrics();
    const cleaner = cleanerWith({}, { clock: time.clock, metrics });
    await cleaner.runNow('cron', { due: lastHour() });
    await cleaner.look();
    expect(await alerts()).toEqual([]);
    time.move(3 * 60 * MINUTE_MS);
    await cleaner.look();
    await cleaner.look();
    expect(await alerts()).toEqual(['run_missed clean']);
    expect((await metrics.batchAlerts.get()).values.find((v) => v.labels.kind === 'run_missed')?.value).toBe(1);

    await setPaused(postgres.database, 'clean', true, 'ada');
    await cleaner.look();
    expect(await alerts()).toEqual([]);
    expect(await recentAlerts(postgres.database, 5)).toMatchObject([{ resolvedAt: expect.any(String) }]);
  });

  test('a run that takes many times the median is late; one that is dead is not at work', async () => {
    const { sql } = postgres.database;
    for (let n = 0; n < 5; n++) {
      const id = await startRun(postgres.database, 'cron');
      await finishRun(postgres.database, id, { status: 'done', error: null, ...NOTHING, objects: 1 });
    }
    const id = await startRun(postgres.database, 'cron');
    await sql`update batch_runs set started_at = started_at - interval '100 seconds' where id = ${id}`;
    const cleaner = cleanerWith({ retries: 0 });
    await cleaner.look();
    expect(await alerts()).toEqual([]);
    await sql`insert into leases values ('clean', 'someone', clock_timestamp() + interval '1 hour')`;
    await cleaner.look();
    expect(await alerts()).toEqual(['run_long clean']);
    await finishRun(postgres.database, id, { status: 'done', error: null, ...NOTHING });
    await cleaner.look();
    expect(await alerts()).toEqual([]);
  });

  test('an object that waits for a store is late, also when nothing runs at all', async () => {
    const { sql } = postgres.database;
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const time = movable();
    const cleaner = cleanerWith({ lateMinutes: 15 }, { clock: time.clock, schedule: LEAP_DAYS });
    time.move(8 * MINUTE_MS);
    await cleaner.look();
    expect(await alerts()).toEqual([]);
    await sql`update archive_objects set seen_at = seen_at - interval '16 minutes'`;
    await cleaner.look();
    expect(await alerts()).toEqual(['archive_late embedded']);
    await cleaner.runNow('manual');
    await cleaner.look();
    expect(await alerts()).toEqual([]);
  });

  test('an object is found late by what came since the look before, not by the whole ledger', async () => {
    const objects = 5000;
    const { sql } = postgres.database;
    await sql`insert into archive_objects select 0, n, n, 'pins/' || n, 1, 100 from generate_series(0, ${objects - 1}) n`;
    await sql`insert into archive_object_stores (partition, first_offset, store, run_id, status, pins, errors, rejects)
      select 0, n, 'embedded', 1, 'done', 1, 0, 0 from generate_series(0, ${objects - 1}) n`;
    await sql`analyze archive_objects`;
    const read = rowsRead(postgres.database);
    const cleaner = cleanerWith({ lateMinutes: 15 }, { database: read.database });
    await cleaner.look();
    expect(await read.about('archive_objects')).toBeGreaterThan(objects);
    await sql`insert into archive_objects values (0, ${objects}, ${objects}, 'pins/late', 1, 100, now() - interval '16 minutes')`;
    await cleaner.look();
    expect(await read.about('archive_objects')).toBeLessThan(objects);
    expect(await alerts()).toEqual(['archive_late embedded']);
  });
});

test('old runs leave the ledger with their steps; the newest hundred stay', async () => {
  const { database } = postgres;
  const ids: number[] = [];
  for (let n = 0; n < 103; n++) {
    const id = await startRun(database, 'cron');
    await finishRun(database, id, { status: 'done', error: null, ...NOTHING });
    ids.push(id);
  }
  const step = {
    partition: 0,
    firstOffset: 0,
    store: 'embedded',
    key: 'k',
    status: 'done',
    ...NOTHING,
    ms: 1,
    error: null,
  };
  const { objects: _, ...row } = step;
  await recordStep(database, { ...row, runId: ids[0] as number });
  expect(await pruneRuns(database, 30)).toBe(0);
  await database.sql`update batch_runs set started_at = started_at - interval '31 days'`;
  expect(await pruneRuns(database, 30)).toBe(3);
  expect(await stepsOfRun(database, ids[0] as number, 10)).toEqual([]);
  expect((await recentRuns(database, 200)).map((run) => run.id)).toEqual(ids.slice(3).reverse());
});
