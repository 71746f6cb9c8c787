import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'cassandra-driver';
import { archivePartitions, listManifest } from '../src/blob/archive.ts';
import { readArchiveObject } from '../src/blob/archive-object.ts';
import { openBlobStore } from '../src/blob/open.ts';
import { readConfig } from '../src/config.ts';
import { cleanPin } from '../src/pin/clean.ts';
import { decodeRecord } from '../src/pin/decode.ts';
import { eventually, runCommand, startWorkers } from '../test/e2e/program.ts';
import { freshBucket, freshDatabase, freshKeyspace, freshName } from '../test/servers/fresh.ts';
import { fillLog, serverSettings } from './topic.ts';

/**
 * Claim, on real servers: archive → Cassandra, cleaned, as fast as the driver in a bare loop of small batches. The time is from the
 * start of a process to the last pin's arrival.
 */
const PINS = 200_000;
const GIVE_UP_MS = 300_000;
const BARE_BATCH = 30;
const BARE_IN_FLIGHT = 32;

const [kafka, cassandra, s3, postgres] = [
  await serverSettings('kafka'),
  await serverSettings('cassandra'),
  await serverSettings('s3'),
  await serverSettings('postgres'),
];
const database = await freshDatabase(postgres);
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const env: Record<string, string> = {
  ...kafka,
  ...cassandra,
  ...((await freshBucket(s3)) as Record<string, string>),
  ...(database.settings as Record<string, string>),
  PIN_TOPIC: freshName('bench'),
  CQL_KEYSPACE: freshKeyspace(),
  DATA_DIR: dir,
  CLEAN_CRON: 'off',
  ARCHIVE_MAX_SECONDS: '2',
};
const config = readConfig(env);

const archived = async () => {
  const store = await openBlobStore(config);
  let pins = 0;
  for (const partition of await archivePartitions(store))
    for await (const entry of listManifest(store, partition)) pins += entry.pins;
  await store.close();
  return pins;
};

/** The same archive, decoded and cleaned, by the driver alone in small batches. */
const bareCassandra = async () => {
  const [host = '', port] = (env.CASSANDRA_CONTACT_POINTS as string).split(':');
  const client = new Client({
    contactPoints: [host],
    protocolOptions: { port: Number(port) },
    localDataCenter: env.CASSANDRA_DATACENTER,
    keyspace: env.CQL_KEYSPACE,
  });
  await client.execute(
    'create table bare (unique_id uuid primary key, category text, title text, description text, follower_count bigint, tag_list frozen<list<text>>, is_image_or_video text, image_src text, downloaded int, save_location text, index_no int, is_error boolean)',
  );
  const query =
    'insert into bare (unique_id, category, title, description, follower_count, tag_list, is_image_or_video, image_src, downloaded, save_location, index_no, is_error) values (?,?,?,?,?,?,?,?,?,?,?,?)';
  const store = await openBlobStore(config);
  const inFlight = new Set<Promise<unknown>>();
  const at = performance.now();
  let batch: { query: string; params: unknown[] }[] = [];
  const send = async () => {
    if (inFlight.size >= BARE_IN_FLIGHT) await Promise.race(inFlight);
    const sent: Promise<unknown> = client
      .batch(batch, { prepare: true, logged: false })
      .finally(() => inFlight.delete(sent));
    inFlight.add(sent);
    batch = [];
  };
  for (const partition of await archivePartitions(store)) {
    for await (const entry of listManifest(store, partition)) {
      for (const { line } of await readArchiveObject(store, entry)) {
        const decoded = decodeRecord(line, 0);
        if (!decoded.ok) continue;
        const p = cleanPin(decoded.value);
        batch.push({
          query,
          params: [
            p.uniqueId,
            p.category,
            p.title,
            p.description,
            p.followerCount === null ? null : String(p.followerCount),
            p.tagList,
            p.isImageOrVideo,
            p.imageSrc,
            p.downloaded,
            p.saveLocation,
            p.indexNo,
            p.isError,
          ],
        });
        if (batch.length === BARE_BATCH) await send();
      }
    }
  }
  if (batch.length > 0) await send();
  await Promise.all(inFlight);
  const rate = PINS / ((performance.now() - at) / 1000);
  await client.execute(`drop keyspace ${env.CQL_KEYSPACE}`);
  await Promise.all([store.close(), client.shutdown()]);
  return rate;
};

const figure = (n: number) => Math.round(n).toLocaleString('en');
const report = (what: string, ours: number, others: readonly (readonly [string, number])[]) => {
  console.log(`${what}: pinflow ${figure(ours)} pins/s`);
  for (const [name, rate] of others) console.log(`  ${name}: ${figure(rate)}; ratio ${(ours / rate).toFixed(2)}`);
};

try {
  await fillLog(config, PINS);
  const archiver = startWorkers({ ...env, WORKERS_CLEAN: '0', WORKERS_STREAM: '0' });
  await eventually('all pins archived', GIVE_UP_MS, async () => ((await archived()) >= PINS ? true : null));
  await archiver.stop();

  await runCommand(env, ['migrate']);
  const at = performance.now();
  const cleaned = await runCommand(env, ['clean', '--format', 'json']);
  const clean = PINS / ((performance.now() - at) / 1000);
  if (cleaned.code !== 0) throw new Error(cleaned.stderr + cleaned.stdout);
  report('archive → Cassandra, cleaned', clean, [['the driver alone, batches of 30', await bareCassandra()]]);
} finally {
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
}
