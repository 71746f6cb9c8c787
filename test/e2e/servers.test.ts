import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { Client } from 'cassandra-driver';
import postgresJs from 'postgres';
import { readConfig } from '../../src/config.ts';
import { queryTrino } from '../../src/db/trino.ts';
import { freshBucket, freshDatabase, freshKeyspace, freshName } from '../servers/fresh.ts';
import { bucketClient } from '../servers/s3.ts';
import { testServer } from '../servers/servers.ts';
import { metricsOf, untilReady } from './asking.ts';
import { eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * The whole pipeline on real servers: pins posted to the real program, and each place counted by a client that is not ours
 * (kcat, the S3 client, CQL, SQL, Trino).
 */
const PINS = 50_000;
const BATCH = 500;
const TIMEOUT_MS = 900_000;
const SETTLE_MS = 300_000;

const servers = {
  kafka: await testServer('kafka'),
  cassandra: await testServer('cassandra'),
  s3: await testServer('s3'),
  postgres: await testServer('postgres'),
  trino: await testServer('trino'),
};
const missing = Object.values(servers).some((server) => 'skip' in server);
const kcat = Bun.which('kcat');

describe.skipIf(missing)(`${PINS} pins through real servers`, () => {
  const topic = freshName('pins');
  const keyspace = freshKeyspace();
  let dir: string;
  let settings: Readonly<Record<string, string>>;
  let program: Running;
  let dropDatabase: () => Promise<void>;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'pinflow-servers-'));
    const database = await freshDatabase(servers.postgres.settings);
    dropDatabase = database.drop;
    settings = {
      ...servers.kafka.settings,
      ...servers.cassandra.settings,
      ...servers.trino.settings,
      ...database.settings,
      ...(await freshBucket(servers.s3.settings)),
      PIN_TOPIC: topic,
      CQL_KEYSPACE: keyspace,
      DATA_DIR: dir,
      ARCHIVE_MAX_SECONDS: '2',
      CLEAN_CRON: 'off',
    } as Record<string, string>;
    program = await startProgram(settings);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await program?.kill('SIGTERM');
    const [host = '', port] = (settings.CASSANDRA_CONTACT_POINTS ?? '').split(':');
    const client = new Client({
      contactPoints: [host],
      protocolOptions: { port: Number(port) },
      localDataCenter: settings.CASSANDRA_DATACENTER,
    });
    await client.execute(`drop keyspace if exists ${keyspace}`);
    await client.shutdown();
    await dropDatabase();
    rmSync(dir, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test(
    'are posted, all acked by the broker',
    async () => {
      const args = [
        '--count',
        String(PINS),
        '--batch',
        String(BATCH),
        '--rate',
        '20000',
        '--seed',
        '11',
        '--url',
        program.url,
      ];
      const { code, stdout, stderr } = await runCommand(settings, ['emulate', ...args, '--format', 'json']);
      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toMatchObject([{ accepted: PINS, rejected: 0, failed: 0 }]);
      expect(code).toBe(0);
      // A broker that was busy with those beyond its deadline is passed by for a moment: the spool has what comes meanwhile.
      await untilReady(program);
      await eventually('the workers have caught up', SETTLE_MS, async () =>
        /^pinflow_consumer_lag_records\{.*\} [1-9]/m.test(await metricsOf(program)) ? null : true,
      );
      const one = await fetch(`${program.url}/pin/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: await Bun.file(join(import.meta.dir, '../fixtures/seed-pin.json')).text(),
      });
      expect([one.status, one.headers.get('x-pin-durability')]).toEqual([200, 'broker']);
    },
    TIMEOUT_MS,
  );

  test(
    'reconcile finds log, archive and both views equal',
    async () => {
      await eventually('all places equal', SETTLE_MS, async () => {
        const clean = await runCommand(settings, ['clean', '--format', 'json']);
        expect(clean.stderr).toBe('');
        const { stdout } = await runCommand(settings, ['reconcile', '--format', 'json']);
        const { equal, counts } = JSON.parse(stdout) as { equal: boolean; counts: Record<string, number> };
        if (!equal) return null;
        expect(counts).toEqual({ archive: PINS + 1, log: PINS + 1, speed: PINS + 1, cassandra: PINS + 1 });
        return counts;
      });
    },
    TIMEOUT_MS,
  );

  test.skipIf(kcat === null)(
    'kcat counts as many records in Kafka',
    async () => {
      const args = [
        '-C',
        '-b',
        settings.KAFKA_BROKERS as string,
        '-t',
        topic,
        '-e',
        '-q',
        '-o',
        'beginning',
        '-f',
        '%k\n',
      ];
      const consumer = Bun.spawn([kcat as string, ...args], { stdout: 'pipe', stderr: 'ignore' });
      const keys = (await new Response(consumer.stdout).text()).trim().split('\n');
      expect(keys.length).toBeGreaterThanOrEqual(PINS + 1);
      expect(new Set(keys).size).toBe(PINS + 1);
    },
    TIMEOUT_MS,
  );

  test(
    'an S3 client counts as many lines in the archive',
    async () => {
      const client = bucketClient(settings);
      const ids = new Set<string>();
      let token: string | undefined;
      do {
        const Prefix = `${settings.S3_PREFIX ?? ''}pins/`;
        const page = await client.send(
          new ListObjectsV2Command({ Bucket: settings.S3_BUCKET, Prefix, ContinuationToken: token }),
        );
        for (const { Key } of page.Contents ?? []) {
          const object = await client.send(new GetObjectCommand({ Bucket: settings.S3_BUCKET, Key }));
          const text = Buffer.from(
            Bun.gunzipSync(Buffer.from((await object.Body?.transformToByteArray()) ?? [])),
          ).toString();
          for (const line of text.trimEnd().split('\n')) ids.add((JSON.parse(line) as { unique_id: string }).unique_id);
        }
        token = page.NextContinuationToken;
      } while (token !== undefined);
      client.destroy();
      expect(ids.size).toBe(PINS + 1);
    },
    TIMEOUT_MS,
  );

  test('SQL counts as many rows in Postgres', async () => {
    const sql = postgresJs(settings.DATABASE_URL as string, { max: 1 });
    const [row] = await sql`select count(*)::int as pins, count(*) filter (where is_error)::int as errors from pins`;
    await sql.end();
    expect(row?.pins).toBe(PINS + 1);
    expect(row?.errors).toBeGreaterThan(PINS / 20);
  });

  test(
    'Trino counts as many rows in Cassandra, by category too; doctor agrees with CQL',
    async () => {
      const config = readConfig({ ...settings, TRINO_CATALOG: 'cassandra' });
      const counted = await queryTrino(config, 'select count(*) from userposts', 10);
      expect(Number(counted.rows[0]?.[0])).toBe(PINS + 1);
      const groups = await queryTrino(config, 'select category, count(*) from userposts group by 1', 100);
      expect(groups.rows.reduce((sum, row) => sum + Number(row[1]), 0)).toBe(PINS + 1);
      const doctor = await runCommand(settings, ['doctor', '--format', 'json']);
      expect(JSON.parse(doctor.stdout)).toContainEqual({
        part: 'Trino on cassandra',
        ok: true,
        detail: `${PINS + 1} rows by Trino and by CQL`,
      });
    },
    TIMEOUT_MS,
  );
});
