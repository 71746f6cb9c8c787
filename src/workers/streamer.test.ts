import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { type FaultyProxy, startFaultyProxy } from '../../test/fixtures/faulty-proxy.ts';
import { postgresEngines } from '../../test/fixtures/postgres.ts';
import { systemClock } from '../clock.ts';
import { startEmbeddedPostgres } from '../db/postgres/embedded.ts';
import { migratePostgres } from '../db/postgres/migrate.ts';
import { type Database, openPostgres } from '../db/postgres/open.ts';
import { countWindows, foldPins, type SpeedPin } from '../db/postgres/speed-batch.ts';
import { getSpeedPin, speedVersions, streamOffsets } from '../db/postgres/speed-view.ts';
import { messageOf, PinflowError } from '../errors.ts';
import { type DeadLetter, letterKey } from '../log/dlq.ts';
import type { PinLog } from '../log/log.ts';
import { sourceOf } from '../log/source.ts';
import { openSqliteLog } from '../log/sqlite.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { writeTimestamp } from '../pin/pin.ts';
import { sleep } from '../retry.ts';
import type { WorkerStatus } from './protocol.ts';
import { createStreamer, type StreamerDeps, type StreamPoint } from './streamer.ts';

const SET_UP_MS = 60_000;
const DEADLINE_MS = 20_000;
const PARTITIONS = 2;
const TOPIC = 'pins';
const GROUP = 'pinflow-stream';
const logger = createLogger('silent', 'test');
const encoder = new TextEncoder();

const sample = (await Bun.file(new URL('../../test/fixtures/pins.ndjson', import.meta.url)).text()).trim().split('\n');
const seed = JSON.parse(sample[0] ?? '{}');

const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
  for (const end = Date.now() + DEADLINE_MS; !(await holds()); await sleep(5)) {
    if (Date.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
  }
};

/** What the speed view must hold, from every record of the log, by the pure functions alone. */
const expectedOf = async (log: PinLog, without: (pin: SpeedPin) => boolean) => {
  const pins: SpeedPin[] = [];
  for (const { partition, start, end } of await log.partitions()) {
    for (const record of await log.read({ partition, offset: start }, end - start)) {
      const decoded = decodeRecord(record.value, record.timestamp);
      if (!decoded.ok) continue;
      const pin = cleanPin(decoded.value);
      const version = writeTimestamp(pin.receivedAtMicros, record.offset);
      const position = { partition, offset: record.offset };
      pins.push({ ...pin, position, source: sourceOf(record), writeTimestamp: version });
    }
  }
  const kept = pins.filter((pin) => !without(pin));
  const versions = foldPins(kept).map((pin) => [pin.uniqueId, pin.writeTimestamp] as const);
  const windows = countWindows(kept).map((w) => `${w.slideMicros} ${w.category} ${w.field} ${w.pins}`);
  return { versions: new Map(versions), windows: windows.sort() };
};

const actualOf = async (database: Database) => {
  const versions = new Map<string, number>();
  for await (const page of speedVersions(database)) for (const v of page) versions.set(v.uniqueId, v.writeTimestamp);
  const rows = await database.db.execute(
    sql`select extract(epoch from slide_start)::float8 as slide, category, field, pins::int4 as pins from pin_error_windows`,
  );
  const windows = rows.map((r) => `${Number(r.slide) * 1e6} ${r.category} ${r.field} ${r.pins}`);
  return { versions, windows: windows.sort() };
};

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`the streamer on ${engine.name}`, () => {
    let server: { url: string; stop: () => Promise<void> };
    let proxy: FaultyProxy;
    /** Past the proxy, for the eyes of the test. */
    let direct: Database;
    let database: Database;
    let dir: string;
    let log: PinLog;
    let letters: DeadLetter[];
    let statuses: WorkerStatus[];
    let metrics: ReturnType<typeof createMetrics>;
    let stops: (() => Promise<void>)[];

    beforeAll(async () => {
      server = await engine.start();
      const url = new URL(server.url);
      proxy = await startFaultyProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      direct = openPostgres({ url: server.url, logger, applicationName: 'test' });
      database = openPostgres({ url: url.toString(), logger, applicationName: 'stream' });
    }, SET_UP_MS);
    afterAll(async () => {
      await database.close();
      await direct.close();
      await proxy.close();
      await server.stop();
    }, SET_UP_MS);

    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'pinflow-stream-'));
      log = await openLog();
      [letters, statuses, stops, metrics] = [[], [], [], createMetrics()];
      await direct.db.execute(sql`truncate pins, pin_error_windows, stream_offsets`);
    });
    afterEach(async () => {
      proxy.restore();
      await Promise.all(stops.map((stop) => stop()));
      await log.close();
      await rm(dir, { recursive: true, force: true });
    });

    const openLog = () =>
      openSqliteLog({
        dir,
        topic: TOPIC,
        partitions: PARTITIONS,
        retentionHours: 1,
        retentionBytes: 2 ** 30,
        maxPendingBytes: 2 ** 28,
        groups: [GROUP],
        logger,
      });

    const start = (given: Partial<StreamerDeps> = {}) => {
      const worker = createStreamer({
        log,
        database,
        sendDeadLetters: async (sent) => void letters.push(...sent),
        metrics,
        logger,
        clock: systemClock,
        status: (status) => statuses.push(status),
        topic: TOPIC,
        group: GROUP,
        limits: { maxPins: 20, maxBytes: 2 ** 23 },
        ...given,
      });
      const ended = worker.run().then(
        () => 'drained',
        (error: unknown) => messageOf(error),
      );
      stops.push(worker.drain);
      return { ...worker, ended };
    };

    const append = (values: readonly (object | string | Uint8Array)[]) =>
      log.append(
        values.map((value) => {
          const text = typeof value === 'string' ? value : JSON.stringify(value);
          const bytes = value instanceof Uint8Array ? value : encoder.encode(text);
          const key = typeof value === 'object' && 'unique_id' in value ? String(value.unique_id) : 'none';
          return { key, value: bytes };
        }),
      );

    /** Realistic pins, ids repeated here and there, some stamped by a coarse clock. */
    const somePins = (count: number) =>
      Array.from({ length: count }, (_, n) => ({
        ...JSON.parse(sample[n % sample.length] ?? '{}'),
        unique_id: `00000000-0000-4000-8000-${String(n % Math.ceil(count * 0.8)).padStart(12, '0')}`,
        received_at: `2026-11-23T12:${String(n % 3).padStart(2, '0')}:00.${String(n % 7).padStart(3, '0')}Z`,
      }));

    const caughtUp = async () => {
      const stored = await streamOffsets(direct, TOPIC);
      return (await log.partitions()).every(({ partition, end }) => (stored.get(partition) ?? 0) === end);
    };
    const expectExact = async (without: (pin: SpeedPin) => boolean = () => false) => {
      await until('the speed view has caught up', caughtUp);
      expect(await actualOf(direct)).toEqual(await expectedOf(log, without));
    };
    const metric = async (name: string) => (await metrics.registry.getSingleMetric(name)?.get())?.values ?? [];
    const sum = (values: readonly { readonly value: number }[]) => values.reduce((total, v) => total + v.value, 0);

    test('brings what is in the log, and what comes after, into rows, windows and offsets', async () => {
      await append(somePins(150));
      start();
      await expectExact();
      await append(somePins(30));
      await expectExact();
      await until(
        'the group knows too',
        async () => sum([...(await log.committed(GROUP)).values()].map((value) => ({ value }))) === 180,
      );
      expect(sum(await metric('pinflow_stream_pins_total'))).toBe(180);
      await until('no lag is shown', async () => sum(await metric('pinflow_consumer_lag_records')) === 0);
      expect(statuses).toEqual([{ state: 'ready' }]);
      expect(letters).toEqual([]);
    });

    for (const point of [
      'before stream commit',
      'after stream commit, before group commit',
      'after group commit',
    ] satisfies StreamPoint[]) {
      test(`a crash ${point} neither repeats nor skips`, async () => {
        for (const at of [1, 2, 3]) {
          await append(somePins(100));
          let calls = 0;
          const crashing = start({
            reached: (reached) => {
              if (reached === point && ++calls === at) throw new Error('crash');
            },
          });
          expect(await crashing.ended).toBe('crash');
        }
        start();
        await expectExact();
      });
    }

    test('a commit whose answer is lost is neither repeated nor skipped', async () => {
      await append(somePins(100));
      let lost = 0;
      const loseNext = () =>
        proxy.loseAnswer((answer) => {
          const committed = answer.includes('COMMIT');
          if (committed && ++lost < 3) setImmediate(loseNext);
          return committed;
        });
      loseNext();
      start();
      await expectExact();
      expect(lost).toBe(3);
      expect(sum(await metric('pinflow_retries_total'))).toBeGreaterThan(0);
    });

    test('large batches, written while the next is prepared: a crash and a refused row among them', async () => {
      await direct.db.execute(sql`alter table pins add constraint no_poison check (title not like 'poison%')`);
      try {
        const limits = { maxPins: 700, maxBytes: 2 ** 23 };
        const poison = { ...seed, unique_id: crypto.randomUUID(), title: 'poison' };
        await append([...somePins(2500), poison, ...somePins(2500)]);
        let calls = 0;
        const reached = (point: StreamPoint) => {
          if (point === 'before stream commit' && ++calls === 3) throw new Error('crash');
        };
        expect(await start({ limits, reached }).ended).toBe('crash');
        start({ limits });
        await expectExact((pin) => pin.title === 'poison');
        expect(letters.map((letter) => JSON.parse(letter.value).title)).toEqual(['poison']);
      } finally {
        await direct.db.execute(sql`alter table pins drop constraint no_poison`);
      }
    });

    test('two workers that both believe to own every partition count nothing twice', async () => {
      await append(somePins(300));
      start({ group: 'one' });
      start({ group: 'other' });
      await append(somePins(300));
      await expectExact();
    });

    test('a worker that was overtaken while it slept writes nothing, and goes on where the other stands', async () => {
      await append(somePins(60));
      const awake = Promise.withResolvers<void>();
      let asleep = 0;
      const sleepy: Database = {
        ...database,
        sql: Object.assign(Object.create(database.sql) as Database['sql'], {
          begin: async (work: never) => {
            asleep++;
            await awake.promise;
            return database.sql.begin(work);
          },
        }),
      };
      start({ group: 'zombie', database: sleepy });
      await until('the zombie is about to write', () => asleep > 0);
      start();
      await until('the other has caught up', caughtUp);
      awake.resolve();
      await append(somePins(60));
      await expectExact();
    });

    test('a group that was set back is not followed: the speed view knows better', async () => {
      await append(somePins(40));
      const first = start();
      await expectExact();
      await first.drain();
      start({ group: 'never committed' });
      await append(somePins(5));
      await expectExact();
    });

    test('a new speed view is filled from the earliest record, whatever the group has committed', async () => {
      await append(somePins(40));
      const first = start();
      await expectExact();
      await first.drain();
      await direct.db.execute(sql`truncate pins, pin_error_windows, stream_offsets`);
      start();
      await expectExact();
    });

    test('goes on over offsets that the log does not have', async () => {
      await append(somePins(50));
      const kept = (offset: number) => offset % 5 !== 2;
      const gappy: PinLog = {
        ...log,
        consume: (options) => {
          const batch: typeof options.handler.batch = (given) =>
            options.handler.batch({ ...given, records: given.records.filter((r) => kept(r.offset)) });
          return log.consume({ ...options, handler: { ...options.handler, batch } });
        },
      };
      start({ log: gappy });
      await expectExact((pin) => !kept(pin.position.offset));
    });

    test('waits, and says why, while this Postgres stands beyond the end of the log', async () => {
      await append(somePins(10));
      await direct.db.execute(
        sql`insert into stream_offsets (topic, partition, next_offset) values (${TOPIC}, 0, 1000)`,
      );
      start();
      await until('it waits', () => statuses.some((s) => s.state === 'waiting' && s.reason.includes('offset 1000')));
      expect((await actualOf(direct)).versions.size).toBe(0);
      await direct.db.execute(sql`truncate stream_offsets`);
      await expectExact();
      expect(statuses.at(-1)).toEqual({ state: 'ready' });
    });

    test('waits while Postgres is away, says so, and goes on by itself', async () => {
      await append(somePins(40));
      start();
      await expectExact();
      proxy.cut();
      await append(somePins(40));
      await until('it waits', () => statuses.at(-1)?.state === 'waiting');
      expect(sum(await metric('pinflow_retries_total'))).toBeGreaterThan(0);
      proxy.restore();
      await expectExact();
      expect(statuses.at(-1)).toEqual({ state: 'ready' });
    });

    /** Of the stream's own transactions, by SQLSTATE, from now on. */
    const failWith = (code: string) =>
      direct.sql.unsafe(`
        create function fail() returns trigger language plpgsql as
          $$ begin raise exception 'as the server says it' using errcode = '${code}'; end $$;
        create trigger failing before insert on pins execute function fail()`);
    const failNoMore = () => direct.sql.unsafe('drop trigger failing on pins; drop function fail()');

    for (const [what, code] of [
      ['the disk is full', '53100'],
      ['memory is used up', '53200'],
      ['a deadlock was found', '40P01'],
    ] as const) {
      test(`waits while ${what} (${code}), sets nothing aside, and goes on by itself`, async () => {
        await append(somePins(60));
        await failWith(code);
        start();
        await until('it waits', () => statuses.at(-1)?.state === 'waiting');
        expect(statuses.at(-1)).toMatchObject({ reason: expect.stringContaining(code) });
        expect(await streamOffsets(direct, TOPIC)).toEqual(new Map());
        await failNoMore();
        await expectExact();
        expect(letters).toEqual([]);
        expect(statuses.at(-1)).toEqual({ state: 'ready' });
      });
    }

    const collisions = async () => {
      await append(somePins(20));
      start();
      await expectExact();
      const retries = async () => sum(await metric('pinflow_retries_total'));
      const waits = async () =>
        (
          await direct.db.execute(
            sql`select 1 from pg_stat_activity where application_name = 'stream' and wait_event_type = 'Lock'`,
          )
        ).length > 0;
      /** Takes the locks the other way round. The server ends whoever has waited a second; that may be us when we are slow to close the circle. */
      const collide = () =>
        direct.sql.begin(async (tx) => {
          await tx`set local deadlock_timeout = '3s'`;
          await tx`lock table pin_error_windows in exclusive mode`;
          await append(somePins(20));
          await until('the stream waits for us', waits);
          await tx`update stream_offsets set updated_at = now()`;
        });
      while ((await retries()) === 0) await collide().catch(() => {});
      await expectExact();
      expect(letters).toEqual([]);
    };
    if (engine.runsSideBySide) test('the victim of a real deadlock tries again', collisions, SET_UP_MS);

    test('drains while Postgres is away; what was under way is done by the next', async () => {
      await append(somePins(40));
      proxy.cut();
      const worker = start();
      await until('it waits', () => statuses.at(-1)?.state === 'waiting');
      await worker.drain();
      expect(await worker.ended).toBe('drained');
      proxy.restore();
      start();
      await expectExact();
    });

    test('what cannot become a pin is a dead letter with its reason; its neighbours land', async () => {
      const bad = ['{"not":', '{"index":1}', Uint8Array.of(0xff, 0xfe)];
      await append([...somePins(5), ...bad, ...somePins(5)]);
      start();
      await expectExact();
      expect(letters.map((l) => [l.stage, l.attempts, l.encoding, l.value])).toEqual([
        ['stream', 1, 'utf8', '{"not":'],
        ['stream', 1, 'utf8', '{"index":1}'],
        ['stream', 1, 'base64', '//4='],
      ]);
      for (const letter of letters) expect(letter.reason).not.toBe('');
      expect((await metric('pinflow_dlq_records_total')).find((v) => v.labels.stage === 'stream')?.value).toBe(3);
    });

    test('a crash after the letters were sent and before the commit sends the same letters again', async () => {
      await append(['{"not":']);
      const crashing = start({
        sendDeadLetters: async (sent) => {
          letters.push(...sent);
          throw new Error('crash');
        },
      });
      expect(await crashing.ended).toBe('crash');
      start();
      await expectExact();
      expect(letters).toHaveLength(2);
      expect(new Set(letters.map(letterKey)).size).toBe(1);
    });

    test('waits while the dead letters cannot be written: the offset does not pass over them', async () => {
      await append(['{"not":']);
      let away = true;
      start({
        sendDeadLetters: async (sent) => {
          if (away) throw new PinflowError('log_unavailable', 'away', { retryable: true });
          letters.push(...sent);
        },
      });
      await until('it waits', () => statuses.at(-1)?.state === 'waiting');
      expect(await streamOffsets(direct, TOPIC)).toEqual(new Map());
      away = false;
      await expectExact();
      expect(letters).toHaveLength(1);
    });

    test('a row the database refuses is found and set aside; its neighbours land', async () => {
      await direct.db.execute(sql`alter table pins add constraint no_poison check (title not like 'poison%')`);
      try {
        const pins = somePins(60).map((pin, n) => ({
          ...pin,
          unique_id: crypto.randomUUID(),
          ...([3, 4, 59].includes(n) ? { title: `poison ${n}` } : {}),
        }));
        await append(pins);
        start();
        await expectExact((pin) => pin.title?.startsWith('poison') ?? false);
        expect(letters.map((letter) => JSON.parse(letter.value).title).sort()).toEqual([
          'poison 3',
          'poison 4',
          'poison 59',
        ]);
        for (const letter of letters) {
          expect(letter.reason).toContain('no_poison');
          expect(letter.attempts).toBeGreaterThan(1);
        }
        expect(sum((await metric('pinflow_stream_pins_total')).filter((v) => v.labels.outcome === 'reject'))).toBe(3);
      } finally {
        await direct.db.execute(sql`alter table pins drop constraint no_poison`);
      }
    });

    test('what trying again does not help ends the worker with the reason', async () => {
      await append(somePins(1));
      await direct.db.execute(sql`alter table pins rename to hidden`);
      try {
        expect(await start().ended).toContain('Run `migrate`');
      } finally {
        await direct.db.execute(sql`alter table hidden rename to pins`);
      }
    });

    test('takes 1 MiB of text, NUL, lone surrogates and 10,000 tags; of one millisecond the later offset wins', async () => {
      const same = { unique_id: '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35', received_at: '2026-11-23T12:00:00.005Z' };
      const title = `${'\u{1F4CC}'.repeat(2 ** 18)}\0\uD800`;
      const tags = Array.from({ length: 10_000 }, (_, n) => `tag ${n}`);
      await append([
        { ...seed, ...same, title: 'first' },
        { ...seed, ...same, title, tag_list: tags.join(', ') },
      ]);
      start();
      await expectExact();
      const row = await getSpeedPin(direct, same.unique_id);
      expect(row?.title).toBe(`${'\u{1F4CC}'.repeat(2 ** 18)}\uFFFD\uFFFD`);
      expect(row?.tagList).toEqual(tags);
    });
  });
}

test(
  'the streamer goes on by itself when the embedded Postgres is closed and started again',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pinflow-stream-'));
    const files = { dir: join(dir, 'postgres'), logger };
    const first = await startEmbeddedPostgres({ ...files, port: 0 });
    const database = openPostgres({ url: first.url, logger, applicationName: 'test' });
    await migratePostgres(database);
    const log = await openSqliteLog({
      dir,
      topic: TOPIC,
      partitions: 1,
      retentionHours: 1,
      retentionBytes: 2 ** 30,
      maxPendingBytes: 2 ** 28,
      groups: [GROUP],
      logger,
    });
    const statuses: WorkerStatus[] = [];
    const worker = createStreamer({
      log,
      database,
      sendDeadLetters: async () => {},
      metrics: createMetrics(),
      logger,
      clock: systemClock,
      status: (status) => statuses.push(status),
      topic: TOPIC,
      group: GROUP,
      limits: { maxPins: 20, maxBytes: 2 ** 23 },
    });
    const ended = worker.run();
    const append = (lines: readonly string[]) =>
      log.append(lines.map((line) => ({ key: 'k', value: encoder.encode(line) })));
    await append(sample.slice(0, 50));
    await until('the first pins are in', async () => (await streamOffsets(database, TOPIC)).get(0) === 50);
    await first.close();
    await append(sample.slice(50, 100));
    await until('it waits', () => statuses.at(-1)?.state === 'waiting');
    const second = await startEmbeddedPostgres({ ...files, port: Number(new URL(first.url).port) });
    await until('the rest is in', async () => (await streamOffsets(database, TOPIC)).get(0) === 100);
    expect(await actualOf(database)).toEqual(await expectedOf(log, () => false));
    await worker.drain();
    await ended;
    await log.close();
    await database.close();
    await second.close();
    await rm(dir, { recursive: true, force: true });
  },
  SET_UP_MS,
);
