import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../../logger.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded.ts';
import {
  abandonRuns,
  acquireLease,
  addObjects,
  finishRun,
  forgetRejected,
  frontier,
  type KnownObject,
  leaseHolder,
  markObject,
  objectOf,
  progressOf,
  recentRuns,
  releaseLease,
  renewLease,
  startRun,
} from './ledger.ts';
import { pendingObjects, retriedObjects } from './ledger-pages.ts';
import { migratePostgres } from './migrate.ts';
import { type Database, openPostgres } from './open.ts';

const logger = createLogger('silent', 'test');
const SET_UP_MS = 60_000;
setDefaultTimeout(SET_UP_MS);
const TTL_MS = 60_000;

let dir: string;
let server: EmbeddedPostgres;
let database: Database;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-ledger-'));
  server = await startEmbeddedPostgres({ dir, port: 0, logger });
  database = openPostgres({ url: server.url, logger, applicationName: 'ledger-test' });
  await migratePostgres(database);
}, SET_UP_MS);

afterAll(async () => {
  await database.close();
  await server.close();
  await rm(dir, { recursive: true, force: true });
}, SET_UP_MS);

beforeEach(async () => {
  const { sql } = database;
  await Promise.all([
    sql`delete from leases`,
    sql`delete from batch_runs`,
    sql`delete from archive_objects`,
    sql`delete from archive_object_stores`,
  ]);
});

const expireLeases = () => database.sql`update leases set expires_at = clock_timestamp()`;
const lease = (holder: string, name = 'clean') => ({ name, holder, ttlMs: TTL_MS });

const object = (partition: number, firstOffset: number, lastOffset: number): KnownObject => ({
  partition,
  firstOffset,
  lastOffset,
  key: `pins/dt=2026-11-23/hour=18/${partition}-${firstOffset}.ndjson.gz`,
  pins: lastOffset - firstOffset + 1,
  bytes: 100,
});

const NOTHING = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };
const START = { partition: -1, firstOffset: -1 };

const progress = (of: KnownObject, store: string) =>
  ({
    partition: of.partition,
    firstOffset: of.firstOffset,
    store,
    runId: 1,
    status: 'done',
    pins: 1,
    errors: 0,
    rejects: 0,
    reason: null,
  }) as const;

describe('leases', () => {
  test('one holder at a time; another gets it when it is released', async () => {
    expect(await acquireLease(database, lease('a'))).toBe(true);
    expect(await acquireLease(database, lease('b'))).toBe(false);
    expect(await leaseHolder(database, 'clean')).toBe('a');
    await releaseLease(database, { name: 'clean', holder: 'b' });
    expect(await leaseHolder(database, 'clean')).toBe('a');
    await releaseLease(database, { name: 'clean', holder: 'a' });
    expect(await leaseHolder(database, 'clean')).toBeNull();
    expect(await acquireLease(database, lease('b'))).toBe(true);
  });

  test('of many that ask at once exactly one gets it, on a new name and on an expired one', async () => {
    const ask = (round: string) =>
      Promise.all(Array.from({ length: 12 }, (_, i) => acquireLease(database, lease(`${round}${i}`))));
    expect((await ask('first-')).filter(Boolean)).toHaveLength(1);
    await expireLeases();
    expect((await ask('second-')).filter(Boolean)).toHaveLength(1);
  });

  test('a holder whose answer was lost may ask again', async () => {
    await acquireLease(database, lease('a'));
    expect(await acquireLease(database, lease('a'))).toBe(true);
  });

  test('a dead holder loses it when it expires, and then cannot renew', async () => {
    await acquireLease(database, lease('dead'));
    expect(await renewLease(database, lease('dead'))).toBe(true);
    await expireLeases();
    expect(await leaseHolder(database, 'clean')).toBeNull();
    expect(await acquireLease(database, lease('next'))).toBe(true);
    expect(await renewLease(database, lease('dead'))).toBe(false);
    await releaseLease(database, { name: 'clean', holder: 'dead' });
    expect(await leaseHolder(database, 'clean')).toBe('next');
  });

  test('a renewal makes it last', async () => {
    await acquireLease(database, lease('a'));
    await expireLeases();
    expect(await renewLease(database, lease('a'))).toBe(true);
    expect(await acquireLease(database, lease('b'))).toBe(false);
  });

  test('names do not touch each other', async () => {
    expect(await acquireLease(database, lease('a', 'clean'))).toBe(true);
    expect(await acquireLease(database, lease('b', 'other'))).toBe(true);
  });
});

describe('runs', () => {
  test('a run is started, then ended with its counts', async () => {
    const id = await startRun(database, 'manual');
    expect(await recentRuns(database, 10)).toMatchObject([
      { id, reason: 'manual', status: 'running', endedAt: null, ...NOTHING },
    ]);
    const counts = { objects: 3, pins: 2 ** 40, errors: 7, rejects: 1, bytes: 2 ** 41 };
    await finishRun(database, id, { status: 'done', error: null, ...counts });
    const [run] = await recentRuns(database, 10);
    expect(run).toMatchObject({ id, status: 'done', error: null, ...counts });
    expect(Date.parse(run?.endedAt ?? '')).toBeGreaterThanOrEqual(Date.parse(run?.startedAt ?? ''));
  });

  test('the newest come first, as many as asked for', async () => {
    const ids = [await startRun(database, 'cron'), await startRun(database, 'cron'), await startRun(database, 'cron')];
    expect((await recentRuns(database, 2)).map((run) => run.id)).toEqual(ids.slice(1).reverse());
  });

  test('runs left running are abandoned, and their zombies cannot end them otherwise', async () => {
    const done = await startRun(database, 'cron');
    await finishRun(database, done, { status: 'done', error: null, ...NOTHING });
    const left = await startRun(database, 'cron');
    expect(await abandonRuns(database)).toEqual([left]);
    expect(await abandonRuns(database)).toEqual([]);
    await finishRun(database, left, { status: 'done', error: null, ...NOTHING, pins: 5 });
    expect(await recentRuns(database, 10)).toMatchObject([
      { id: left, status: 'abandoned', pins: 0 },
      { id: done, status: 'done' },
    ]);
  });
});

describe('objects', () => {
  const chain = [object(0, 0, 9), object(0, 10, 24), object(0, 25, 25), object(1, 0, 4)];
  const pending = (partition: number, store: string, after = -1, limit = 100) =>
    pendingObjects(database, { partition, store, after, limit });

  test('the frontier of a partition is its highest first offset', async () => {
    expect(await frontier(database, 0)).toBeNull();
    await addObjects(database, chain);
    expect(await frontier(database, 0)).toBe(25);
    expect(await frontier(database, 1)).toBe(0);
    expect(await frontier(database, 2)).toBeNull();
  });

  test('adding again changes nothing', async () => {
    await addObjects(database, chain);
    await addObjects(database, [{ ...object(0, 0, 9), pins: 999 }, object(1, 5, 6)]);
    await addObjects(database, []);
    expect(await pending(0, 'scylla')).toEqual(chain.slice(0, 3));
    expect(await pending(1, 'scylla')).toEqual([object(1, 0, 4), object(1, 5, 6)]);
  });

  test('pending objects come in the order of the chain, page by page, each store on its own', async () => {
    await addObjects(database, [...chain].reverse());
    const [first, second] = chain as [KnownObject, KnownObject];
    await markObject(database, progress(second, 'scylla'));
    expect((await pending(0, 'scylla')).map((o) => o.firstOffset)).toEqual([0, 25]);
    expect((await pending(0, 'cassandra')).map((o) => o.firstOffset)).toEqual([0, 10, 25]);
    expect((await pending(0, 'cassandra', -1, 2)).map((o) => o.firstOffset)).toEqual([0, 10]);
    expect((await pending(0, 'cassandra', 10, 2)).map((o) => o.firstOffset)).toEqual([25]);
    await markObject(database, progress(first, 'cassandra'));
    expect((await pending(0, 'cassandra')).map((o) => o.firstOffset)).toEqual([10, 25]);
  });

  test('the first mark of an object and store stays', async () => {
    await addObjects(database, chain);
    const [first] = chain as [KnownObject];
    await markObject(database, { ...progress(first, 'scylla'), pins: 10, errors: 2, rejects: 1 });
    await markObject(database, { ...progress(first, 'scylla'), runId: 2, pins: 11 });
    await markObject(database, { ...progress(first, 'cassandra'), status: 'rejected', reason: 'truncated' });
    expect(await progressOf(database, first)).toMatchObject([
      { store: 'cassandra', status: 'rejected', reason: 'truncated' },
      { store: 'scylla', status: 'done', runId: 1, pins: 10, errors: 2, rejects: 1, reason: null },
    ]);
  });

  test('a rejected object that is asked for again is taken up once, in the stores that rejected it', async () => {
    await addObjects(database, chain);
    const [first, second] = chain as [KnownObject, KnownObject];
    const rejected = { status: 'rejected', reason: 'truncated', rejects: 1 } as const;
    await markObject(database, progress(first, 'scylla'));
    await markObject(database, { ...progress(second, 'scylla'), ...rejected });
    await markObject(database, { ...progress(second, 'cassandra'), ...rejected });
    await markObject(database, { ...progress(first, 'cassandra'), ...rejected });
    expect(await retriedObjects(database, 'scylla', START, 10)).toEqual([]);

    await forgetRejected(database, second.key);
    await forgetRejected(database, first.key);
    expect(await retriedObjects(database, 'scylla', START, 10)).toEqual([second]);
    expect(await retriedObjects(database, 'cassandra', START, 10)).toEqual([first, second]);
    expect(await retriedObjects(database, 'cassandra', START, 1)).toEqual([first]);
    expect(await retriedObjects(database, 'cassandra', first, 10)).toEqual([second]);
    expect((await pending(0, 'scylla')).map((o) => o.firstOffset)).toEqual([10, 25]);

    await markObject(database, { ...progress(second, 'scylla'), runId: 9 });
    expect(await retriedObjects(database, 'scylla', START, 10)).toEqual([]);
    expect(await progressOf(database, second)).toMatchObject([
      { store: 'cassandra', status: 'retry', reason: 'truncated' },
      { store: 'scylla', status: 'done', runId: 9, reason: null, rejects: 0 },
    ]);
  });

  test('a position names the object it stands in', async () => {
    await addObjects(database, [...chain, object(0, 100, 199)]);
    const keyOf = async (partition: number, offset: number) =>
      (await objectOf(database, { partition, offset }))?.firstOffset ?? null;
    expect(await keyOf(0, 0)).toBe(0);
    expect(await keyOf(0, 9)).toBe(0);
    expect(await keyOf(0, 10)).toBe(10);
    expect(await keyOf(0, 25)).toBe(25);
    expect(await keyOf(0, 26)).toBeNull();
    expect(await keyOf(0, 150)).toBe(100);
    expect(await keyOf(0, 200)).toBeNull();
    expect(await keyOf(1, 4)).toBe(0);
    expect(await keyOf(7, 0)).toBeNull();
  });
});

test('a database that is away is a retryable PinflowError', async () => {
  const away = openPostgres({ url: 'postgres://nobody@127.0.0.1:1/none', logger, applicationName: 'ledger-test' });
  await expect(frontier(away, 0)).rejects.toMatchObject({ code: 'postgres_unavailable', retryable: true });
  await away.close();
});
