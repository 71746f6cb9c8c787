import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rowsRead } from '../test/fixtures/rows-read.ts';
import { readConfig } from './config.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './db/postgres/embedded.ts';
import { addObjects, markObject, startRun } from './db/postgres/ledger.ts';
import { migratePostgres } from './db/postgres/migrate.ts';
import { type Database, openPostgres } from './db/postgres/open.ts';
import { PinflowError } from './errors.ts';
import { createGauges, type GaugeDeps, type Gauges } from './gauges.ts';
import { type DeadLetter, deadLetterSender, resolveLetters } from './log/dlq.ts';
import type { Consumer, PinLog } from './log/log.ts';
import { ARCHIVE_GROUP, STREAM_GROUP } from './log/names.ts';
import { openDeadLetterLog, openLog } from './log/open.ts';
import { createLogger } from './logger.ts';
import { createMetrics, type Metrics } from './metrics.ts';

/** On a real log, a real dead letter queue and a real Postgres: what the gauges say of them. */
setDefaultTimeout(60_000);

const logger = createLogger('silent', 'test');
const NOW = Date.now();

let postgresDir: string;
let server: EmbeddedPostgres;
let database: Database;
let dir: string;
let log: PinLog;
let metrics: Metrics;
let gauges: Gauges;
let nowMs: number;

beforeAll(async () => {
  postgresDir = await mkdtemp(join(tmpdir(), 'pinflow-gauges-postgres-'));
  server = await startEmbeddedPostgres({ dir: postgresDir, port: 0, logger });
  database = openPostgres({ url: server.url, max: 2, logger, applicationName: 'test' });
  await migratePostgres(database);
});
afterAll(async () => {
  await database.close();
  await server.close();
  await rm(postgresDir, { recursive: true, force: true });
});

const gaugesWith = (over: Partial<GaugeDeps> = {}) =>
  createGauges({
    log,
    openDeadLetters: () => openDeadLetterLog(readConfig({ DATA_DIR: dir }), { logger }),
    database,
    groups: [ARCHIVE_GROUP, STREAM_GROUP],
    stores: ['scylla', 'cassandra'],
    metrics,
    clock: { now: () => nowMs },
    logger,
    ...over,
  });

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-gauges-'));
  nowMs = NOW;
  const clock = { now: () => nowMs };
  log = await openLog(readConfig({ DATA_DIR: dir, PARTITIONS: '2' }), { logger, clock });
  metrics = createMetrics();
  gauges = gaugesWith();
});
afterEach(async () => {
  await gauges.stop();
  await log.close();
  await rm(dir, { recursive: true, force: true });
});

const values = async (gauge: { get: () => Promise<{ values: readonly { value: number; labels: object }[] }> }) =>
  (await gauge.get()).values.map(({ value, labels }) => [...Object.values(labels), value]);

const append = (keys: readonly string[]) =>
  log.append(keys.map((key) => ({ key, value: new TextEncoder().encode('{}') })));

/** Reads all there is as this group and commits it. */
const commitAll = async (group: string) => {
  const states = await log.partitions();
  const waiting = new Map(states.filter(({ end }) => end > 0).map(({ partition, end }) => [partition, end]));
  const done = Promise.withResolvers<void>();
  const consumer: Consumer = log.consume({
    group,
    maxRecords: 100,
    maxBytes: 1024 * 1024,
    handler: {
      assigned: async (partitions) => new Map(partitions.map((partition) => [partition, null])),
      batch: async ({ partition, records }) => {
        const next = (records.at(-1)?.offset ?? 0) + 1;
        await consumer.commit(partition, next);
        if (next >= (waiting.get(partition) ?? 0)) waiting.delete(partition);
        if (waiting.size === 0) done.resolve();
      },
      revoked: async () => {},
    },
  });
  await done.promise;
  await consumer.close();
};

test('lag in seconds is the age of the oldest record a group has not committed, without any worker', async () => {
  await gauges.sample();
  expect(await values(metrics.consumerLagSeconds)).toEqual([
    [ARCHIVE_GROUP, 0],
    [STREAM_GROUP, 0],
  ]);

  await append(['a', 'b', 'c', 'd']);
  await commitAll(STREAM_GROUP);
  nowMs += 60_000;
  await append(['e', 'f', 'g', 'h']);
  nowMs += 5000;
  await gauges.sample();
  expect(await values(metrics.consumerLagSeconds)).toEqual([
    [ARCHIVE_GROUP, 65],
    [STREAM_GROUP, 5],
  ]);

  await commitAll(ARCHIVE_GROUP);
  await gauges.sample();
  expect(await values(metrics.consumerLagSeconds)).toEqual([
    [ARCHIVE_GROUP, 0],
    [STREAM_GROUP, 5],
  ]);
});

test('open dead letters are counted as they come and go', async () => {
  const dlq = await openDeadLetterLog(readConfig({ DATA_DIR: dir }), { logger });
  const letter = (offset: number): DeadLetter => ({
    stage: 'stream',
    reason: 'not JSON',
    position: { partition: 0, offset },
    object: null,
    attempts: 1,
    value: 'x',
    encoding: 'utf8',
    at: new Date(NOW).toISOString(),
  });
  const count = async () => {
    await gauges.sample();
    return (await values(metrics.openDeadLetters))[0]?.[0];
  };
  expect(await count()).toBe(0);
  await deadLetterSender(dlq)([letter(1), letter(2), letter(3)]);
  expect(await count()).toBe(3);
  await deadLetterSender(dlq)([letter(3)]);
  expect(await count()).toBe(3);
  await resolveLetters(dlq, ['stream:0/1', 'stream:0/2'], 'dropped');
  expect(await count()).toBe(1);
  await deadLetterSender(dlq)([letter(1)]);
  expect(await count()).toBe(2);
  await dlq.close();
});

test('the age of what a store does not have ends when it has it', async () => {
  const object = { partition: 0, firstOffset: 0, lastOffset: 9, key: 'pins/a', pins: 10, bytes: 100 };
  await addObjects(database, [object, { ...object, firstOffset: 10, lastOffset: 19, key: 'pins/b' }]);
  await database.db.execute("UPDATE archive_objects SET seen_at = now() - interval '1 hour' WHERE first_offset = 0");
  const done = { partition: 0, runId: await startRun(database, 'manual'), pins: 10, errors: 0, rejects: 0 };
  const mark = (store: string, firstOffset: number) =>
    markObject(database, { ...done, store, firstOffset, status: 'done', reason: null });
  await mark('scylla', 0);
  await gauges.sample();
  const [scylla, cassandra] = await values(metrics.cleanOldestPending);
  expect(scylla?.[0]).toBe('scylla');
  expect(scylla?.[1]).toBeWithin(0, 60);
  expect(cassandra?.[1]).toBeWithin(3600, 3700);
  await mark('scylla', 10);
  await gauges.sample();
  expect((await values(metrics.cleanOldestPending))[0]).toEqual(['scylla', 0]);
});

test('of an old archive the whole ledger is read once', async () => {
  const objects = 5000;
  const { sql } = database;
  await sql`delete from archive_objects`;
  await sql`insert into archive_objects select 0, n, n, 'pins/' || n, 1, 100 from generate_series(0, ${objects - 1}) n`;
  await sql`insert into archive_object_stores (partition, first_offset, store, run_id, status, pins, errors, rejects)
    select 0, n, 'aged', 1, 'done', 1, 0, 0 from generate_series(0, ${objects - 1}) n`;
  await sql`analyze archive_objects`;
  const read = rowsRead(database);
  gauges = gaugesWith({ database: read.database, stores: ['aged'] });
  await gauges.sample();
  expect(await read.about('archive_objects')).toBeGreaterThan(objects);
  await gauges.sample();
  expect(await read.about('archive_objects')).toBeLessThan(objects);
  expect(await values(metrics.cleanOldestPending)).toEqual([['aged', 0]]);
});

test('what cannot be asked has no value, and the others still have theirs', async () => {
  await gauges.sample();
  await gauges.stop();
  const away = () => Promise.reject(new PinflowError('log_unavailable', 'the broker is away', { retryable: true }));
  gauges = gaugesWith({ log: { ...log, partitions: away } });
  await gauges.sample();
  expect(await values(metrics.consumerLagSeconds)).toEqual([]);
  expect((await values(metrics.cleanOldestPending)).map(([store]) => store)).toEqual(['scylla', 'cassandra']);
});

test('a dead letter queue that is away at the start is asked again', async () => {
  let tries = 0;
  gauges = gaugesWith({
    openDeadLetters: () =>
      ++tries === 1
        ? Promise.reject(new PinflowError('log_unavailable', 'the broker is away', { retryable: true }))
        : openDeadLetterLog(readConfig({ DATA_DIR: dir }), { logger }),
  });
  await gauges.sample();
  await gauges.sample();
  await gauges.sample();
  expect(tries).toBe(2);
});
