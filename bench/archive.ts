import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { openBlobStore } from '../src/blob/open.ts';
import { readConfig } from '../src/config.ts';
import { startWorkers } from '../test/e2e/program.ts';
import { freshBucket, freshDatabase, freshName } from '../test/servers/fresh.ts';
import { hasPeer, s3Config, startPeer } from './peer.ts';
import { cpuOf, memoryOf } from './process.ts';
import { fillLog, serverSettings } from './topic.ts';

/**
 * Claim, on a real Kafka and a real S3 server: log → S3, gzip, at four times Redpanda Connect's pins a second. The rate is that of the
 * steady state, between a tenth and nine tenths of what is stored, so that starts, joining the group and the last small
 * objects do not count. The peer runs twice: as it comes, and at our level of gzip.
 */
const PINS = Number(process.argv[2] ?? 1_000_000);
const POLL_MS = 50;
/** A prefix that has not grown for so long may have all its pins: they are counted. */
const QUIET_MS = 5000;
const GIVE_UP_MS = 600_000;
const [FROM_SHARE, TO_SHARE] = [0.1, 0.9];
const MIB = 1024 * 1024;
const LINE_FEED = 0x0a;
/** See src/blob/archive-object.ts. */
const OUR_GZIP_LEVEL = 2;

const [kafka, s3] = [await serverSettings('kafka'), await serverSettings('s3')];
// All engines are real: an embedded Postgres would be made meanwhile, on the cores that are measured.
const database = await freshDatabase(await serverSettings('postgres'));
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const env: Record<string, string> = {
  ...kafka,
  ...(database.settings as Record<string, string>),
  PIN_TOPIC: freshName('bench'),
  DATA_DIR: dir,
  ARCHIVE_MAX_SECONDS: '2',
  WORKERS_CLEAN: '0',
  WORKERS_STREAM: '0',
};
const config = readConfig(env);

type Bucket = Readonly<Record<string, string>>;
type Sample = { readonly at: number; readonly bytes: number };

const storeOf = (bucket: Bucket) => openBlobStore(readConfig({ ...env, ...bucket }));

const countPins = async (bucket: Bucket, prefix: string) => {
  const store = await storeOf(bucket);
  let pins = 0;
  for await (const { key } of store.list({ prefix })) {
    const text = gunzipSync((await store.get(key))?.bytes ?? new Uint8Array());
    for (let at = text.indexOf(LINE_FEED); at !== -1; at = text.indexOf(LINE_FEED, at + 1)) pins++;
    // Redpanda Connect does not end the last line.
    if (text.at(-1) !== LINE_FEED) pins++;
  }
  await store.close();
  return pins;
};

/** Samples what is stored under a prefix until it is all there. */
const watchGrowth = async (bucket: Bucket, prefix: string): Promise<readonly Sample[]> => {
  const store = await storeOf(bucket);
  const began = performance.now();
  const samples: Sample[] = [{ at: began, bytes: 0 }];
  for (;;) {
    let bytes = 0;
    for await (const { size } of store.list({ prefix })) bytes += size;
    const at = performance.now();
    const last = samples.at(-1) as Sample;
    if (bytes > last.bytes) samples.push({ at, bytes });
    if (bytes > 0 && at - last.at > QUIET_MS) {
      if ((await countPins(bucket, prefix)) === PINS) break;
      samples.push({ at, bytes });
    }
    if (at - began > GIVE_UP_MS) throw new Error(`${prefix} has not got all pins within ${GIVE_UP_MS} ms`);
    await Bun.sleep(POLL_MS);
  }
  await store.close();
  return samples;
};

/** Pins a second between the two shares of what is stored in the end. */
const steadyRate = (samples: readonly Sample[]) => {
  const total = samples.at(-1)?.bytes ?? 0;
  const at = (share: number) => samples.find(({ bytes }) => bytes >= share * total) as Sample;
  const [from, to] = [at(FROM_SHARE), at(TO_SHARE)];
  return (PINS * (to.bytes - from.bytes) * 1000) / (total * (to.at - from.at));
};

type Run = { readonly pid: number; readonly stop: () => Promise<unknown> };

const measure = async (prefix: string, start: (bucket: Bucket) => Run) => {
  const bucket = (await freshBucket(s3)) as Bucket;
  const run = start(bucket);
  try {
    const samples = await watchGrowth(bucket, prefix);
    const bytes = samples.at(-1)?.bytes ?? 0;
    return { rate: steadyRate(samples), bytes, cpu: cpuOf(run.pid) / PINS, peak: memoryOf(run.pid).peak };
  } finally {
    await run.stop();
  }
};

const figure = (n: number) => Math.round(n).toLocaleString('en');
const print = (name: string, { rate, bytes, cpu, peak }: Awaited<ReturnType<typeof measure>>) =>
  console.log(
    `${name}: ${figure(rate)} pins/s; ${figure(bytes / PINS)} bytes a pin stored; CPU of its own process ${cpu.toFixed(1)} µs a pin; memory at most ${figure(peak / MIB)} MiB`,
  );

try {
  await fillLog(config, PINS);
  console.log(`log → S3, gzip, ${figure(PINS)} pins in ${config.PARTITIONS} partitions`);
  const ours = await measure('pins/', (bucket) => startWorkers({ ...env, ...bucket }));
  print(`pinflow, gzip level ${OUR_GZIP_LEVEL}`, ours);
  const levels = [
    [-1, 'its default level of gzip'],
    [OUR_GZIP_LEVEL, `gzip level ${OUR_GZIP_LEVEL}`],
  ] as const;
  for (const [level, words] of hasPeer ? levels : []) {
    const brokers = config.KAFKA_BROKERS as string[];
    const peer = await measure('peer/', (bucket) => startPeer(s3Config(brokers, config.PIN_TOPIC, bucket, level)));
    print(`Redpanda Connect, ${words}`, peer);
    console.log(`  ratio ${(ours.rate / peer.rate).toFixed(2)}`);
  }
} finally {
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
}
