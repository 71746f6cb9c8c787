import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dropKeyspaces } from '../fixtures/cassandra.ts';
import { freshBucket, freshDatabase, freshKeyspace, freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { metricsOf, post, untilMetric, untilNamed, untilReady } from './asking.ts';
import { eventually, type Running, runCommand, startProgram } from './program.ts';

/** The whole program on real servers while its broker is away for more than a minute, in the middle of the traffic. */
setDefaultTimeout(400_000);
const AWAY_MS = 61_000;
const BETWEEN_POSTS_MS = 50;
const READY_MS = 60_000;

const servers = {
  kafka: await testServer('kafka'),
  s3: await testServer('s3'),
  postgres: await testServer('postgres'),
  cassandra: await testServer('cassandra'),
};
const missing = Object.values(servers).some((server) => 'skip' in server);
const isOurs = 'from' in servers.kafka && servers.kafka.from === 'packages';
if (!missing && !isOurs) console.warn('skipped: an outage needs a broker of our own');

describe.skipIf(missing || !isOurs)('a broker that is away for a minute', () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-outage-'));
  const keyspace = freshKeyspace();
  let program: Running | undefined;
  let broker: OwnServer | undefined;
  let drop: (() => Promise<void>) | undefined;

  afterAll(async () => {
    await program?.kill('SIGKILL');
    await broker?.stop();
    await drop?.();
    await dropKeyspaces(servers.cassandra.settings, [keyspace]);
    rmSync(dir, { recursive: true, force: true });
  });

  test('no post is refused, the metrics tell of it, and all four places hold each pin once', async () => {
    // A port from below the range of outgoing connections: the broker must find it free when it comes back.
    const [port = 0] = await freePorts(1);
    broker = await ownServer('kafka', port);
    const database = await freshDatabase(servers.postgres.settings);
    drop = database.drop;
    const settings = {
      ...broker.settings,
      ...servers.cassandra.settings,
      ...database.settings,
      ...(await freshBucket(servers.s3.settings)),
      PIN_TOPIC: freshName('pins'),
      CQL_KEYSPACE: keyspace,
      DATA_DIR: dir,
      ARCHIVE_MAX_SECONDS: '1',
      CLEAN_CRON: '*/2 * * * * *',
    } as Record<string, string>;
    const running = await startProgram(settings);
    program = running;
    await untilReady(running);
    const acked = new Map<string | null, number>();
    let pins = 0;
    const postOne = async () => {
      const durability = await post(running);
      acked.set(durability, (acked.get(durability) ?? 0) + 1);
      pins++;
      return durability;
    };
    const postFor = async (ms: number) => {
      for (const end = Date.now() + ms; Date.now() < end; await Bun.sleep(BETWEEN_POSTS_MS)) await postOne();
    };

    // A broker that has just started may be too slow for its first request, which then goes by the spool.
    await eventually('the broker acks a pin', READY_MS, async () => ((await postOne()) === 'broker' ? true : null));
    await untilMetric(running, /^pinflow_spool_records 0$/m);
    acked.clear();
    await postFor(2000);
    expect([...acked.keys()]).toEqual(['broker']);
    await broker.end('SIGKILL');
    const away = postFor(AWAY_MS);
    await untilNamed(running, { 'log (kafka)': 'KAFKA_BROKERS', spool: 'pins wait here' });
    await untilMetric(running, /^pinflow_spool_records [1-9]/m);
    await away;
    const spooled = Number(/^pinflow_spool_records (\d+)/m.exec(await metricsOf(running))?.[1]);
    expect(spooled).toBe(acked.get('spool') ?? 0);

    await broker.startAgain();
    await untilReady(running);
    await postFor(1000);
    expect(await postOne()).toBe('broker');
    const reconciled = await runCommand(settings, ['reconcile', '--wait', '120', '--format', 'json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({
      equal: true,
      chainBreaks: [],
      counts: { log: pins, archive: pins, speed: pins, cassandra: pins },
    });
    expect(await running.kill('SIGTERM')).toBe(0);
  });
});
