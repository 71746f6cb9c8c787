import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { Client } from 'cassandra-driver';
import postgresJs from 'postgres';
import { inflictAll, injuriesOf } from '../../src/chaos/injuries.ts';
import { type Subject, startSubject } from '../../src/chaos/subject.ts';
import { postPins, type Traffic } from '../../src/chaos/traffic.ts';
import { systemClock } from '../../src/clock.ts';
import { environmentWith } from '../../src/config.ts';
import { type FaultyProxy, startFaultyProxy } from '../fixtures/faulty-proxy.ts';
import { freshBucket, freshKeyspace, freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { bucketClient } from '../servers/s3.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { eventually, runCommand } from './program.ts';

/**
 * Two processes of the real program share the consumer groups of real servers, and all of them are hurt at once while pins flow:
 * the servers one after another, the processes and their threads in a random order. Then clients that are not ours count.
 */
const PINS = 50_000;
const SECONDS = 35;
const SEED = 7;
const PAUSE_MS = 3000;
const DRAIN_TIMEOUT_MS = 15_000;
const SETTLE_MS = 240_000;
setDefaultTimeout(600_000);

const s3 = await testServer('s3');
const others = [await testServer('kafka'), await testServer('postgres'), await testServer('cassandra')];
const areOurs = !('skip' in s3) && others.every((server) => 'from' in server && server.from === 'packages');
const kcat = Bun.which('kcat');
if (!areOurs || kcat === null)
  console.warn('skipped: chaos needs servers of its own (not from variables or compose) and kcat');

const SLOW_DOWN = 'HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';

type LoggedRecord = { readonly place: string; readonly id: string };

describe.skipIf(!areOurs || kcat === null)('chaos on real servers', () => {
  let dir: string;
  let kafka: OwnServer;
  let cassandra: OwnServer;
  let postgres: OwnServer;
  let proxy: FaultyProxy;
  let settings: Record<string, string>;
  let program: Subject;
  let second: Subject;
  let traffic: Traffic;
  let logged: readonly LoggedRecord[];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'pinflow-chaos-e2e-'));
    // Ports from below the range of outgoing connections: a restarted server must find its own free.
    const [kafkaPort = 0, cassandraPort = 0, postgresPort = 0, edgePort = 0] = await freePorts(4);
    [kafka, cassandra, postgres] = await Promise.all([
      ownServer('kafka', kafkaPort),
      ownServer('cassandra', cassandraPort),
      ownServer('postgres', postgresPort),
    ]);
    const bucket = await freshBucket(s3.settings);
    const { hostname, port } = new URL(bucket.S3_ENDPOINT ?? '');
    proxy = await startFaultyProxy({ host: hostname, port: Number(port) });
    settings = {
      ...kafka.settings,
      ...cassandra.settings,
      ...postgres.settings,
      ...bucket,
      S3_ENDPOINT: `http://127.0.0.1:${proxy.port}`,
      PIN_TOPIC: freshName('pins'),
      CQL_KEYSPACE: freshKeyspace(),
      DATA_DIR: join(dir, 'data'),
      PORT: String(edgePort),
      ARCHIVE_MAX_SECONDS: '2',
      CLEAN_CRON: '*/2 * * * * *',
      SPOOL_DEADLINE_MS: '1000',
      DRAIN_TIMEOUT_MS: String(DRAIN_TIMEOUT_MS),
      LOG_LEVEL: 'warn',
    };
    const start = (command: string) =>
      startSubject({
        command,
        env: environmentWith(settings),
        output: join(dir, `${command}.log`),
        drainTimeoutMs: DRAIN_TIMEOUT_MS,
      });
    [program, second] = [start('up'), start('work')];
  });

  afterAll(async () => {
    await Promise.all([program?.kill(), second?.kill()]);
    await Promise.all([kafka, cassandra, postgres].map((server) => server?.stop()));
    await proxy?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const hurtServers = async () => {
    process.kill(kafka.pid, 'SIGSTOP');
    await Bun.sleep(PAUSE_MS);
    process.kill(kafka.pid, 'SIGCONT');
    proxy.answerWith(SLOW_DOWN);
    await Bun.sleep(PAUSE_MS);
    proxy.answerWith(null);
    // Its crash, and its recovery from the write-ahead log.
    await postgres.end('SIGQUIT');
    await postgres.startAgain();
    await kafka.end('SIGKILL');
    await kafka.startAgain();
    await cassandra.end('SIGTERM');
    await cassandra.startAgain();
  };

  test('every pin is acked while servers, processes and threads come and go', async () => {
    const hurt = hurtServers();
    const end = new AbortController();
    hurt.then(
      () => end.abort(),
      () => end.abort(),
    );
    const injuries = injuriesOf(program, second, ['archive', 'clean', 'stream']);
    const posting = postPins({
      url: `http://127.0.0.1:${settings.PORT}`,
      pins: PINS,
      seconds: SECONDS,
      seed: SEED,
      clock: systemClock,
      signal: new AbortController().signal,
    });
    const all = Promise.all([
      posting,
      hurt,
      inflictAll(injuries, { seed: SEED, signal: end.signal, onInjury: () => {} }),
    ]);
    const [posted, , faults] = await Promise.race([all, program.failed, second.failed]);
    traffic = posted;
    expect(posted.posted).toBe(PINS);
    expect(Object.values(faults).every((times) => times > 0)).toBe(true);
    const threads = readFileSync(join(dir, 'up.log'), 'utf8').match(/(archive|clean|stream) ended \(/g) ?? [];
    expect(new Set(threads).size).toBe(3);
  });

  test('reconcile finds log, archive and both views equal, and both processes drain', async () => {
    await eventually('all places equal', SETTLE_MS, async () => {
      const { code, stderr } = await runCommand(settings, ['reconcile', '--wait', '60', '--format', 'json']);
      if (code !== 0) console.warn(stderr.slice(0, 500));
      return code === 0 ? true : null;
    });
    await Promise.all([program.drain(), second.drain()]);
  });

  test('kcat: every acked id is in Kafka', async () => {
    const args = [
      '-C',
      '-b',
      settings.KAFKA_BROKERS ?? '',
      '-t',
      settings.PIN_TOPIC ?? '',
      '-e',
      '-q',
      '-o',
      'beginning',
    ];
    const consumer = Bun.spawn([kcat as string, ...args, '-f', '%p/%o %k\n'], { stdout: 'pipe', stderr: 'inherit' });
    const lines = (await new Response(consumer.stdout).text()).trim().split('\n');
    logged = lines.map((line) => {
      const [place = '', id = ''] = line.split(' ');
      return { place, id };
    });
    const ids = new Set(logged.map(({ id }) => id));
    expect(
      traffic.acked
        .keys()
        .filter((id) => !ids.has(id))
        .toArray(),
    ).toEqual([]);
    expect(ids.size).toBe(traffic.acked.size);
    expect(logged.length).toBeGreaterThanOrEqual(PINS);
  });

  test('an S3 client: each offset of Kafka is in the archive exactly once, with its pin', async () => {
    const client = bucketClient({ ...settings, S3_ENDPOINT: s3.settings.S3_ENDPOINT ?? '' });
    const archived = new Map<string, string>();
    const twice: string[] = [];
    let token: string | undefined;
    do {
      const query = { Bucket: settings.S3_BUCKET, Prefix: 'pins/', ContinuationToken: token };
      const page = await client.send(new ListObjectsV2Command(query));
      for (const { Key = '' } of page.Contents ?? []) {
        const object = await client.send(new GetObjectCommand({ Bucket: settings.S3_BUCKET, Key }));
        const text = Buffer.from(
          Bun.gunzipSync(Buffer.from((await object.Body?.transformToByteArray()) ?? [])),
        ).toString();
        const [, partition, first] = /(\d+)-(\d+)\.ndjson\.gz$/.exec(Key) ?? [];
        expect(object.Metadata?.runs).toBeUndefined();
        for (const [i, line] of text.trimEnd().split('\n').entries()) {
          const place = `${partition}/${Number(first) + i}`;
          if (archived.has(place)) twice.push(place);
          archived.set(place, (JSON.parse(line) as { unique_id: string }).unique_id);
        }
      }
      token = page.NextContinuationToken;
    } while (token !== undefined);
    client.destroy();
    expect(twice).toEqual([]);
    expect(logged.filter(({ place, id }) => archived.get(place) !== id)).toEqual([]);
    expect(archived.size).toBe(logged.length);
  });

  const wrongOf = (found: ReadonlyMap<string, number>) =>
    traffic.acked
      .entries()
      .filter(([id, index]) => found.get(id) !== index)
      .toArray();

  test('SQL: each id has its last version in Postgres, and each record was counted once', async () => {
    const sql = postgresJs(settings.DATABASE_URL ?? '', { max: 1 });
    const rows = await sql<{ unique_id: string; index_no: number }[]>`select unique_id, index_no from pins`;
    const [windows] = await sql`select sum(pins)::int as pins from pin_error_windows where field = ''`;
    await sql.end();
    expect(wrongOf(new Map(rows.map((row) => [row.unique_id, row.index_no])))).toEqual([]);
    expect(rows.length).toBe(traffic.acked.size);
    expect(windows?.pins).toBe(logged.length);
  });

  test('CQL: each id has its last version in Cassandra', async () => {
    const [host = '', port] = (settings.CASSANDRA_CONTACT_POINTS ?? '').split(':');
    const client = new Client({
      contactPoints: [host],
      protocolOptions: { port: Number(port) },
      localDataCenter: settings.CASSANDRA_DATACENTER,
    });
    const found = new Map<string, number>();
    const query = `select unique_id, index_no from ${settings.CQL_KEYSPACE}.userposts`;
    for await (const row of await client.execute(query, [], { prepare: true, fetchSize: 5000 })) {
      found.set(String(row.unique_id), row.index_no);
    }
    await client.shutdown();
    expect(wrongOf(found)).toEqual([]);
    expect(found.size).toBe(traffic.acked.size);
  });
});
