import { describe, expect, test } from 'bun:test';
import { manifestKey } from '../blob/archive.ts';
import type { BlobStore } from '../blob/blob.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import { forgetRejected, objectOf, progressOf, recentRuns, startRun } from '../db/postgres/ledger.ts';
import { PinflowError } from '../errors.ts';
import { sleep } from '../retry.ts';
import {
  idOf,
  pinLine,
  pinLines,
  putObject,
  type TestDatabase,
  tableOf,
  useWorkshop,
  type Workshop,
} from './clean-fixture.ts';
import type { WorkerStatus } from './protocol.ts';

const DEADLINE_MS = 10_000;

let postgres: TestDatabase;
let shop: Workshop;
useWorkshop((opened) => {
  ({ postgres, shop } = opened);
});

const until = async (condition: () => boolean) => {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true in time');
    await sleep(10);
  }
};

/** The real store, with what `get` was asked for. */
const watched = (store: BlobStore) => {
  const keys: string[] = [];
  const get: BlobStore['get'] = (key) => {
    keys.push(key);
    return store.get(key);
  };
  return { store: { ...store, get }, keys };
};

/** The real store, away until it is brought back. */
const flaky = (real: PinStore) => {
  const state = { away: true };
  const check = () => {
    if (state.away) throw new PinflowError('pin_store_unavailable', `${real.name} is away`, { retryable: true });
  };
  const store: PinStore = {
    ...real,
    migrate: async () => {
      check();
      await real.migrate();
    },
    upsert: async (rows) => {
      check();
      await real.upsert(rows);
    },
  };
  return { store, state };
};

const progress = async (partition: number, firstOffset: number) =>
  (await progressOf(postgres.database, { partition, firstOffset })).map(({ store, status }) => `${store} ${status}`);

describe('a run', () => {
  test('brings the archive into the batch view and writes down what it did', async () => {
    const entries = [
      await putObject(shop.store, 0, 0, pinLines(0, 10)),
      await putObject(shop.store, 0, 10, [pinLine(10), pinLine(11, { title: null }), 'no pin']),
      await putObject(shop.store, 2, 5, pinLines(20, 7)),
    ];
    const summary = await shop.cleaner().runNow('manual');
    const counts = { objects: 3, pins: 19, errors: 1, rejects: 1, bytes: entries.reduce((n, e) => n + e.bytes, 0) };
    expect(summary).toMatchObject({ reason: 'manual', status: 'done', error: null, ...counts });
    expect(await recentRuns(postgres.database, 10)).toMatchObject([
      { id: summary.id as number, reason: 'manual', status: 'done', error: null, ...counts },
    ]);
    expect(await shop.pinStore.count()).toBe(19);
    const row = await shop.pinStore.get(idOf(21));
    expect(row?.position).toEqual({ partition: 2, offset: 6 });
    expect(await objectOf(postgres.database, { partition: 2, offset: 6 })).toMatchObject({
      key: entries[2]?.key ?? '',
    });
  });

  test('reads nothing twice: not in the next run, not in a new process, only what is new', async () => {
    const first = await putObject(shop.store, 0, 0, pinLines(0, 10));
    const { store, keys } = watched(shop.store);
    const cleaner = shop.cleaner({ store });
    await cleaner.runNow('cron');
    expect(keys.filter((key) => key === first.key)).toHaveLength(1);
    keys.length = 0;
    await cleaner.runNow('cron');
    await cleaner.runNow('manual');
    await shop.cleaner({ store }).runNow('cron');
    expect(keys).toEqual([]);
    const second = await putObject(shop.store, 0, 10, pinLines(10, 10));
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 1, pins: 10 });
    expect(new Set(keys)).toEqual(new Set([second.key, manifestKey(0, 10)]));
    expect(await shop.pinStore.count()).toBe(20);
  });

  test('over an empty archive is done', async () => {
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', objects: 0 });
  });

  test('more objects than one page, more manifest entries than one read', async () => {
    for (let n = 0; n < 230; n++) await putObject(shop.store, 0, n, [pinLine(n)]);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', objects: 230, pins: 230 });
    expect(await shop.pinStore.count()).toBe(230);
  });

  test('two that ask by hand while one is at work share the next; a cron run then due is let go', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 3));
    const cleaner = shop.cleaner();
    const [first, cron, second, third] = await Promise.all([
      cleaner.runNow('manual'),
      cleaner.runNow('cron'),
      cleaner.runNow('manual'),
      cleaner.runNow('manual'),
    ]);
    expect(cron.id).toBe(first.id as number);
    expect(second.id).not.toBe(first.id);
    expect(third.id).toBe(second.id as number);
    expect(await recentRuns(postgres.database, 10)).toHaveLength(2);
  });

  test('a Postgres that is away is said in the summary', async () => {
    const database = {
      ...postgres.database,
      db: new Proxy(postgres.database.db, {
        get: () => () => {
          throw new PinflowError('postgres_unavailable', 'Postgres is away', { retryable: true });
        },
      }),
    };
    expect(await shop.cleaner({ database }).runNow('cron')).toMatchObject({
      id: null,
      status: 'failed',
      error: 'Postgres is away',
    });
  });
});

describe('a damaged object', () => {
  const half = (bytes: Uint8Array) => bytes.subarray(0, bytes.length / 2);
  const flipped = (bytes: Uint8Array) => bytes.map((byte, i) => (i === 20 ? byte ^ 1 : byte));
  const cases: readonly (readonly [string, (bytes: Uint8Array) => Uint8Array, string])[] = [
    ['truncated', half, 'SHA-256'],
    ['with a flipped bit', flipped, 'SHA-256'],
    ['empty', () => new Uint8Array(), 'SHA-256'],
    ['that is not gzip', () => Buffer.from('{"not":"gzip"}\n'), 'SHA-256'],
  ];

  const expectRejected = async (key: string, reason: string) => {
    expect(await progress(0, 3)).toEqual(['embedded rejected']);
    expect(await shop.pinStore.count()).toBe(6);
    expect([...shop.letters.values()]).toMatchObject([
      { stage: 'clean', object: key, position: null, reason: expect.stringContaining(reason) },
    ]);
    const note = await shop.store.get(`rejects/${key}.json`);
    expect(JSON.parse(Buffer.from(note?.bytes ?? []).toString())).toMatchObject({
      key,
      firstOffset: 3,
      reason: expect.stringContaining(reason),
    });
  };

  const putThree = async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 3));
    const middle = await putObject(shop.store, 0, 3, pinLines(3, 3));
    await putObject(shop.store, 0, 6, pinLines(6, 3));
    return middle;
  };

  test.each(cases)('%s is set aside, the run goes on', async (_, damage, reason) => {
    const { key } = await putThree();
    const damaged = damage((await shop.store.get(key))?.bytes ?? new Uint8Array());
    await shop.store.put(key, damaged, { ifAbsent: false });
    const cleaner = shop.cleaner();
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 3, pins: 6, rejects: 1 });
    await expectRejected(key, reason);
    expect(Buffer.from((await shop.store.get(`rejects/${key}`))?.bytes ?? [])).toEqual(Buffer.from(damaged));
    expect(await cleaner.runNow('cron')).toMatchObject({ objects: 0, rejects: 0 });
    expect(shop.sent()).toBe(1);
  });

  test('that is not there is set aside', async () => {
    const { key } = await putThree();
    await shop.store.delete(key);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', pins: 6, rejects: 1 });
    await expectRejected(key, 'not in the store');
    expect(await shop.store.get(`rejects/${key}`)).toBeNull();
  });

  test('with another number of lines than its manifest entry says is set aside', async () => {
    const entry = await putThree();
    const wrong = { ...entry, lastOffset: entry.lastOffset - 1, pins: entry.pins - 1 };
    await shop.store.put(manifestKey(0, 3), Buffer.from(JSON.stringify(wrong)), { ifAbsent: false });
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', pins: 6, rejects: 1 });
    await expectRejected(entry.key, 'more lines than offsets');
  });

  test('restored, and asked for again, is taken up by the next scheduled run', async () => {
    const { key } = await putThree();
    const whole = (await shop.store.get(key))?.bytes ?? new Uint8Array();
    await shop.store.put(key, half(whole), { ifAbsent: false });
    const cleaner = shop.cleaner();
    await cleaner.runNow('cron');
    await forgetRejected(postgres.database, key);
    expect(await cleaner.runNow('cron')).toMatchObject({ objects: 1, rejects: 1 });
    expect(shop.sent()).toBe(2);
    await forgetRejected(postgres.database, key);
    await shop.store.put(key, whole, { ifAbsent: false });
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 1, pins: 3, rejects: 0 });
    expect(await progress(0, 3)).toEqual(['embedded done']);
    expect(await shop.pinStore.count()).toBe(9);
  });

  test('as all of many are, in one run', async () => {
    const many = 205;
    const whole = new Map<string, Uint8Array>();
    for (let n = 0; n < many; n++) {
      const { key } = await putObject(shop.store, 0, n, [pinLine(n)]);
      whole.set(key, (await shop.store.get(key))?.bytes ?? new Uint8Array());
      await shop.store.put(key, Buffer.from('damaged'), { ifAbsent: false });
    }
    const cleaner = shop.cleaner();
    expect(await cleaner.runNow('cron')).toMatchObject({ objects: many, rejects: many });
    for (const [key, bytes] of whole) {
      await shop.store.put(key, bytes, { ifAbsent: false });
      await forgetRejected(postgres.database, key);
    }
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: many, pins: many, rejects: 0 });
    expect(await shop.pinStore.count()).toBe(many);
  });
});

describe('a read that fails', () => {
  const away = () => new PinflowError('blob_unavailable', 'the store is away', { retryable: true });

  test('for a moment is tried again; a read cut short is not taken for damage', async () => {
    const { key } = await putObject(shop.store, 0, 0, pinLines(0, 5));
    let reads = 0;
    const get: BlobStore['get'] = async (asked) => {
      const found = await shop.store.get(asked);
      if (asked !== key || found === null) return found;
      reads++;
      if (reads === 1) throw away();
      return reads === 2 ? { ...found, bytes: found.bytes.subarray(0, 30) } : found;
    };
    const summary = await shop.cleaner({ store: { ...shop.store, get } }).runNow('cron');
    expect(summary).toMatchObject({ status: 'done', pins: 5, rejects: 0 });
    expect(reads).toBe(3);
    expect(shop.sent()).toBe(0);
  });

  test('for one object only leaves that one to the next run, never rejected', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 3));
    const { key } = await putObject(shop.store, 0, 3, pinLines(3, 3));
    await putObject(shop.store, 0, 6, pinLines(6, 3));
    let forbidden = true;
    const get: BlobStore['get'] = (asked) => {
      if (asked === key && forbidden) throw new PinflowError('blob_unavailable', 'access denied');
      return shop.store.get(asked);
    };
    const cleaner = shop.cleaner({ store: { ...shop.store, get } });
    const summary = await cleaner.runNow('cron');
    expect(summary).toMatchObject({ status: 'failed', objects: 2, pins: 6, rejects: 0 });
    expect(summary.error).toContain(`${key}: access denied`);
    forbidden = false;
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 1, pins: 3 });
    expect(shop.sent()).toBe(0);
  });

  test('for every object ends the run early', async () => {
    for (let n = 0; n < 6; n++) await putObject(shop.store, 0, n, [pinLine(n)]);
    const asked: string[] = [];
    const get: BlobStore['get'] = (key) => {
      if (!key.startsWith('pins/')) return shop.store.get(key);
      asked.push(key);
      throw new PinflowError('blob_unavailable', 'access denied');
    };
    const summary = await shop.cleaner({ store: { ...shop.store, get } }).runNow('cron');
    expect(summary).toMatchObject({ status: 'failed', objects: 0 });
    // Three in a row, and the one that is read meanwhile.
    expect(asked).toHaveLength(4);
  });

  test('of an archive that is not the one of the ledger rejects nothing', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 3));
    const down = { ...shop.pinStore, upsert: () => Promise.reject(new PinflowError('config', 'not set up')) };
    await shop.cleaner({ pinStores: [down] }).runNow('cron');
    const other = { ...shop.store, get: () => Promise.resolve(null) };
    const summary = await shop.cleaner({ store: other }).runNow('cron');
    expect(summary.error).toContain('is this the archive that belongs to DATABASE_URL?');
    expect(await progress(0, 0)).toEqual([]);
  });
});

describe('a line or a row that cannot land', () => {
  test('lines that are no pins go to the dead letter queue by position, as they were', async () => {
    const binary = new Uint8Array([0xff, 0x0a, 0x00]);
    const records = [pinLine(0), binary, '{"unique_id":1}', pinLine(3)];
    await putObject(shop.store, 1, 100, records);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', pins: 2, rejects: 2 });
    expect(await shop.pinStore.count()).toBe(2);
    expect([...shop.letters.keys()]).toEqual(['clean:1/101', 'clean:1/102']);
    const [first, second] = shop.letters.values();
    expect(first).toMatchObject({ encoding: 'base64', value: Buffer.from(binary).toString('base64'), object: null });
    expect(second?.reason).toContain('unique_id');
    expect(await progress(1, 100)).toEqual(['embedded done']);
  });

  test('a row the store refuses goes there as the line it came from; its neighbours land', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 50));
    await putObject(shop.store, 0, 50, [...pinLines(50, 20), pinLine(70, { title: 'poison' }), ...pinLines(71, 20)]);
    const upsert: PinStore['upsert'] = async (rows) => {
      if (rows.some((row) => row.title === 'poison')) throw new PinflowError('invalid_pin', 'the row is too large');
      await shop.pinStore.upsert(rows);
    };
    const summary = await shop.cleaner({ pinStores: [{ ...shop.pinStore, upsert }] }).runNow('cron');
    expect(summary).toMatchObject({ status: 'done', pins: 90, rejects: 1 });
    expect(await shop.pinStore.count()).toBe(90);
    const [letter] = shop.letters.values();
    expect(letter).toMatchObject({ position: { partition: 0, offset: 70 }, reason: 'the row is too large' });
    expect(letter?.value).toBe(pinLine(70, { title: 'poison' }));
  });

  test('a dead letter queue that is away holds up only the objects that need it', async () => {
    await putObject(shop.store, 0, 0, [pinLine(0), 'no pin']);
    await putObject(shop.store, 0, 2, pinLines(2, 5));
    let down = true;
    const sendDeadLetters = async (letters: Parameters<ReturnType<Workshop['deps']>['sendDeadLetters']>[0]) => {
      if (down) throw new PinflowError('log_unavailable', 'the log is away');
      await shop.deps().sendDeadLetters(letters);
    };
    const cleaner = shop.cleaner({ sendDeadLetters });
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'failed', objects: 1, pins: 5 });
    down = false;
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 1, pins: 1, rejects: 1 });
    expect([...shop.letters.keys()]).toEqual(['clean:0/1']);
  });
});

describe('two stores', () => {
  test('one that is away does not hold up the other, and is caught up', async () => {
    const second = flaky(shop.secondStore);
    const cleaner = shop.cleaner({ pinStores: [shop.pinStore, second.store] });
    await putObject(shop.store, 0, 0, [...pinLines(0, 5), 'no pin']);
    const firstRun = await cleaner.runNow('cron');
    expect(firstRun).toMatchObject({ status: 'failed', objects: 1, pins: 5 });
    expect(firstRun.error).toContain('scylla is away');
    await putObject(shop.store, 0, 6, pinLines(6, 5));
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'failed', objects: 1, pins: 5 });
    expect(await shop.pinStore.count()).toBe(10);
    expect(await progress(0, 0)).toEqual(['embedded done']);

    second.state.away = false;
    await putObject(shop.store, 0, 11, pinLines(11, 5));
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done', objects: 4, pins: 20 });
    expect(await progress(0, 0)).toEqual(['embedded done', 'scylla done']);
    expect(await tableOf(shop.secondStore)).toEqual(await tableOf(shop.pinStore));
    // The bad line was known already when the second store came to it.
    expect(shop.sent()).toBe(1);
  });

  test('one that goes away in the middle is not asked for the objects after that', async () => {
    for (let n = 0; n < 3; n++) await putObject(shop.store, 0, n, [pinLine(n)]);
    const tried: number[] = [];
    const upsert: PinStore['upsert'] = async (rows) => {
      tried.push(rows[0]?.position.offset ?? -1);
      if (tried.length > 1) throw new PinflowError('pin_store_unavailable', 'away', { retryable: true });
      await shop.pinStore.upsert(rows);
    };
    const summary = await shop.cleaner({ pinStores: [{ ...shop.pinStore, upsert }] }).runNow('cron');
    expect(summary).toMatchObject({ status: 'failed', objects: 1, error: 'embedded: away' });
    expect(new Set(tried)).toEqual(new Set([0, 1]));
  });

  test('both at one object read it once, and send its bad lines once', async () => {
    const { key } = await putObject(shop.store, 0, 0, [...pinLines(0, 5), 'no pin']);
    const { store, keys } = watched(shop.store);
    const summary = await shop.cleaner({ store, pinStores: [shop.pinStore, shop.secondStore] }).runNow('cron');
    expect(summary).toMatchObject({ status: 'done', objects: 2, pins: 10, rejects: 2 });
    expect(keys.filter((asked) => asked === key)).toHaveLength(1);
    expect(shop.sent()).toBe(1);
  });

  test('one added later gets the whole archive', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    await putObject(shop.store, 1, 0, pinLines(5, 5));
    await shop.cleaner().runNow('cron');
    const both = shop.cleaner({ pinStores: [shop.pinStore, shop.secondStore] });
    expect(await both.runNow('cron')).toMatchObject({ status: 'done', objects: 2, pins: 10 });
    expect(await tableOf(shop.secondStore)).toEqual(await tableOf(shop.pinStore));
  });
});

describe('one cleaner at a time', () => {
  const holdOthersOut = () =>
    postgres.database.sql`insert into leases values ('clean', 'the dead one', clock_timestamp() + interval '1 hour')`;
  const expireLease = () => postgres.database.sql`update leases set expires_at = clock_timestamp()`;

  test('of two at once one runs; the scheduled other is skipped and says who is at it', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const names = ['a', 'b'];
    const both = await Promise.all(names.map((holder) => shop.cleaner({ holder }).runNow('cron')));
    expect(both.map((summary) => summary.status).sort()).toEqual(['done', 'skipped']);
    const runner = names[both.findIndex((summary) => summary.status === 'done')];
    expect(both.find((summary) => summary.status === 'skipped')?.error).toMatch(
      new RegExp(`^(${runner}/.*|another process) is cleaning now`),
    );
    expect(await recentRuns(postgres.database, 10)).toHaveLength(1);
    expect(await shop.pinStore.count()).toBe(5);
  });

  test('one asked for by hand waits for the other', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const both = await Promise.all([shop.cleaner().runNow('manual'), shop.cleaner().runNow('manual')]);
    expect(both.map((summary) => summary.status)).toEqual(['done', 'done']);
    expect(both.reduce((pins, summary) => pins + summary.pins, 0)).toBe(5);
  });

  test('a dead holder keeps others out until its lease expires; its run is then abandoned', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const left = await startRun(postgres.database, 'cron');
    await holdOthersOut();
    const cleaner = shop.cleaner();
    expect(await cleaner.runNow('cron')).toMatchObject({
      id: null,
      status: 'skipped',
      error: 'the dead one is cleaning now',
    });
    await expireLease();
    const summary = await cleaner.runNow('cron');
    expect(summary).toMatchObject({ status: 'done', pins: 5 });
    expect(await recentRuns(postgres.database, 10)).toMatchObject([
      { id: summary.id as number, status: 'done' },
      { id: left, status: 'abandoned' },
    ]);
  });

  test('a run goes on beyond the life of its lease: it is renewed', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const slow: PinStore = {
      ...shop.pinStore,
      upsert: async (rows) => {
        await sleep(3000);
        await shop.pinStore.upsert(rows);
      },
    };
    const running = shop.cleaner({ pinStores: [slow], leaseTtlMs: 1500 }).runNow('cron');
    await sleep(2200);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'skipped' });
    expect(await running).toMatchObject({ status: 'done' });
  });

  test('a run whose lease another took stops, and leaves the rest to it', async () => {
    for (let n = 0; n < 3; n++) await putObject(shop.store, 0, n, [pinLine(n)]);
    const slow: PinStore = {
      ...shop.pinStore,
      upsert: async (rows) => {
        await postgres.database.sql`update leases set holder = 'the thief'`;
        await sleep(500);
        await shop.pinStore.upsert(rows);
      },
    };
    const summary = await shop.cleaner({ pinStores: [slow], leaseTtlMs: 300 }).runNow('cron');
    expect(summary).toMatchObject({ status: 'abandoned', objects: 1 });
    expect(summary.error).toContain('took the lease');
    await expireLease();
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', objects: 2 });
  });

  test('the lease is free after a run, also after one that failed', async () => {
    const broken = { ...shop.pinStore, migrate: () => Promise.reject(new PinflowError('config', 'not set up')) };
    expect(await shop.cleaner({ pinStores: [broken] }).runNow('cron')).toMatchObject({ status: 'failed' });
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done' });
  });
});

describe('stopping', () => {
  test('a drain in the middle finishes the object at hand; the next run goes on from there', async () => {
    for (let n = 0; n < 5; n++) await putObject(shop.store, 0, n * 10, pinLines(n * 10, 10));
    let marked = 0;
    const cleaner = shop.cleaner({
      reached: (point) => {
        if (point === 'object marked' && ++marked === 2) void cleaner.drain();
      },
    });
    const running = cleaner.run();
    const summary = await cleaner.runNow('cron');
    await running;
    expect(summary).toMatchObject({ status: 'abandoned', objects: 2, pins: 20 });
    expect(await recentRuns(postgres.database, 1)).toMatchObject([{ status: 'abandoned', objects: 2, pins: 20 }]);
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'skipped', error: 'the program is shutting down' });
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', objects: 3, pins: 30 });
    expect(await shop.pinStore.count()).toBe(50);
  });

  test('a drain between upsert and progress leaves the object to the next run, which changes nothing', async () => {
    await putObject(shop.store, 0, 0, pinLines(0, 4100));
    const cleaner = shop.cleaner({
      reached: (point) => {
        if (point === 'chunk upserted') void cleaner.drain();
      },
    });
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'abandoned', objects: 0 });
    // Two calls of 2,000 rows were under way.
    expect(await shop.pinStore.count()).toBe(4000);
    expect(await progress(0, 0)).toEqual([]);
    expect(await shop.cleaner().runNow('cron')).toMatchObject({ status: 'done', objects: 1, pins: 4100 });
    expect(await shop.pinStore.count()).toBe(4100);
  });

  test('drained before it began, it ends at once; twice is as once', async () => {
    const cleaner = shop.cleaner({ schedule: { cron: '* * * * * *', timezone: 'UTC' } });
    await Promise.all([cleaner.drain(), cleaner.drain()]);
    await cleaner.run();
    expect(await recentRuns(postgres.database, 1)).toEqual([]);
  });

  test('a run over its time limit fails, and the next goes on from there', async () => {
    for (let n = 0; n < 5; n++) await putObject(shop.store, 0, n, [pinLine(n)]);
    const slow: PinStore = {
      ...shop.pinStore,
      upsert: async (rows) => {
        await sleep(600);
        await shop.pinStore.upsert(rows);
      },
    };
    const summary = await shop.cleaner({ pinStores: [slow], timeoutSeconds: 1 }).runNow('cron');
    expect(summary).toMatchObject({ status: 'failed', error: expect.stringContaining('CLEAN_TIMEOUT_SECONDS=1') });
    expect(summary.objects).toBeLessThan(5);
    const rest = await shop.cleaner().runNow('cron');
    expect(rest).toMatchObject({ status: 'done', objects: 5 - summary.objects });
    expect(await shop.pinStore.count()).toBe(5);
  });
});

describe('as a worker', () => {
  test('runs on its schedule and says whether it can work', async () => {
    const said: WorkerStatus[] = [];
    const { store, state } = flaky(shop.pinStore);
    const cleaner = shop.cleaner({
      pinStores: [store],
      schedule: { cron: '* * * * * *', timezone: 'UTC' },
      status: (status) => void said.push(status),
    });
    const running = cleaner.run();
    await until(() => said.some((s) => s.state === 'waiting' && s.reason.includes('is away')));
    state.away = false;
    await until(() => said.at(-1)?.state === 'ready');
    await putObject(shop.store, 0, 0, pinLines(0, 5));
    const deadline = Date.now() + DEADLINE_MS;
    while ((await shop.pinStore.count()) < 5 && Date.now() < deadline) await sleep(50);
    expect(await shop.pinStore.count()).toBe(5);
    await cleaner.drain();
    await running;
    expect((await recentRuns(postgres.database, 1))[0]).toMatchObject({ reason: 'cron' });
  });

  test('a schedule that cannot be read is refused', () => {
    expect(() => shop.cleaner({ schedule: { cron: 'now and then', timezone: 'UTC' } })).toThrow('CLEAN_CRON');
  });
});

test('reads the next object while one is written, and writes one after the other', async () => {
  for (let n = 0; n < 4; n++) await putObject(shop.store, 0, n * 10, pinLines(n * 10, 10));
  const read: string[] = [];
  const get: BlobStore['get'] = (key) => {
    if (key.startsWith('pins/')) read.push(key);
    return shop.store.get(key);
  };
  let [writing, ahead] = [0, 0];
  const upsert: PinStore['upsert'] = async (rows, generation) => {
    expect(++writing).toBe(1);
    const wanted = Math.min((rows[0]?.position.offset ?? 0) / 10 + 2, 4);
    for (let looks = 0; read.length < wanted && looks < 500; looks++) await sleep(10);
    ahead = Math.max(ahead, read.length - wanted);
    expect(read.length).toBeGreaterThanOrEqual(wanted);
    await shop.pinStore.upsert(rows, generation);
    writing--;
  };
  const deps = { store: { ...shop.store, get }, pinStores: [{ ...shop.pinStore, upsert }] };
  expect(await shop.cleaner(deps).runNow('cron')).toMatchObject({ status: 'done', objects: 4, pins: 40 });
  expect([new Set(read).size, read.length, ahead]).toEqual([4, 4, 0]);
});
