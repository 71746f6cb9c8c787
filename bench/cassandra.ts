import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import postgresJs from 'postgres';
import { openBlobStore } from '../src/blob/open.ts';
import { readConfig } from '../src/config.ts';
import { openCassandraPinStore } from '../src/db/pin-store/cassandra.ts';
import { environment, runCommand } from '../test/e2e/program.ts';
import { cassandraOptions, dropKeyspaces } from '../test/fixtures/cassandra.ts';
import { freshDatabase, freshKeyspace } from '../test/servers/fresh.ts';
import { fillArchive } from './archive-files.ts';
import { openSparkConnector, type SparkConnector } from './spark-connector.ts';
import { serverSettings } from './topic.ts';

/**
 * Aim, on a real Cassandra: archive → Cassandra, cleaned, at 90 % of the driver's best in a bare loop (the same statement and values, ready in
 * memory), and 2.5 times Spark's connector. All read the same files; each run has a keyspace of its own, whose rows are counted. Rounds
 * take turns; the rate is that of the steady state, after the first object (Spark's: of a session that is warm). `PYSPARK` and `SPARK_CASSANDRA_JARS`: see README.md; without them no Spark.
 */
const { values } = parseArgs({
  options: { pins: { type: 'string', default: '100000' }, rounds: { type: 'string', default: '3' } },
});
const PINS = Number(values.pins);
const ROUNDS = Number(values.rounds);
const PINS_EACH = 20_000;
/** [rows a batch, batches in flight] of the bare loop; the first one warms the server up and does not count. */
const WARM_UP = [30, 32] as const;
const BARE = [
  [1, 256],
  [30, 4],
  [30, 16],
  [30, 32],
  [60, 16],
] as const;
/** Spark's connector as it comes, and as ours and the bare loop batch. */
const SPARK = [
  ['as it comes', {}],
  [
    'batches of 30, 16 in flight a task',
    {
      'spark.cassandra.output.batch.grouping.key': 'replica_set',
      'spark.cassandra.output.batch.size.rows': '30',
      'spark.cassandra.output.concurrent.writes': '16',
    },
  ],
] as const;

const cassandra = await serverSettings('cassandra');
const postgres = await serverSettings('postgres');
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const shared: Record<string, string> = { ...cassandra, DATA_DIR: dir, CLEAN_CRON: 'off' };

type Env = Readonly<Record<string, string>>;

/** Rows a second, without the first object. */
const steadyRate = (seconds: number) => (PINS - PINS_EACH) / seconds;

/** What `write` answers, who writes into a keyspace of its own. @throws when not every pin is there */
const intoFreshKeyspace = async <T>(write: (env: Env) => Promise<T>): Promise<T> => {
  const env = { ...shared, CQL_KEYSPACE: freshKeyspace() };
  const store = openCassandraPinStore(cassandraOptions(cassandra, env.CQL_KEYSPACE));
  await store.migrate();
  const written = await write(env);
  const rows = await store.count();
  if (rows !== PINS) throw new Error(`${rows} rows, not ${PINS}`);
  await store.close();
  await dropKeyspaces(cassandra, [env.CQL_KEYSPACE]);
  return written;
};

const bare = ([rows, inFlight]: readonly [number, number]) =>
  intoFreshKeyspace(async (env) => {
    const script = join(import.meta.dir, 'cassandra-bare.ts');
    const command = [process.execPath, script, String(rows), String(inFlight), String(PINS_EACH)];
    const child = Bun.spawn(command, { env: environment(env), stdout: 'pipe', stderr: 'inherit' });
    const said = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error('the bare loop failed');
    return steadyRate((JSON.parse(said) as { readonly seconds: number }).seconds);
  });

/** Milliseconds of a run of ours that do not count: start and end of the process, connecting, the first object. */
const starts: number[] = [];
const ours = () =>
  intoFreshKeyspace(async (env) => {
    const database = await freshDatabase(postgres);
    try {
      const withLedger = { ...env, ...(database.settings as Env) };
      await runCommand(withLedger, ['migrate']);
      const at = performance.now();
      const { code, stdout, stderr } = await runCommand(withLedger, ['clean']);
      if (code !== 0) throw new Error(stderr + stdout);
      const ms = performance.now() - at;
      const sql = postgresJs(database.url, { max: 1 });
      const [steps] = await sql`
        select extract(epoch from max(ended_at) - min(ended_at))::float8 as seconds from batch_run_steps`;
      await sql.end();
      const seconds = Number(steps?.seconds);
      starts.push(ms - seconds * 1000);
      return steadyRate(seconds);
    } finally {
      await database.drop();
    }
  });

const figure = (n: number) => Math.round(n).toLocaleString('en');
const median = (some: readonly number[]) => some.toSorted((a, b) => a - b)[Math.floor(some.length / 2)] ?? 0;

type Rates = readonly number[];
const print = (name: string, rates: Rates) =>
  console.log(`${name}: ${figure(median(rates))} rows/s (${rates.map(figure).join(', ')})`);
const printPeer = (name: string, rates: Rates, ours: Rates) => {
  print(`  ${name}`, rates);
  console.log(`  ratio ${(median(ours) / median(rates)).toFixed(2)}`);
};

const bareWords = ([rows, inFlight]: readonly [number, number]) =>
  `the driver alone, ${rows === 1 ? 'inserts' : `batches of ${rows}`}, ${inFlight} in flight`;

/** The bare loop at each of its settings once, printed. @returns the fastest */
const fastestBare = async (): Promise<(typeof BARE)[number]> => {
  const rates: number[] = [];
  for (const setting of BARE) {
    const rate = await bare(setting);
    rates.push(rate);
    console.log(`  ${bareWords(setting)}: ${figure(rate)} rows/s`);
  }
  return BARE[rates.indexOf(Math.max(...rates))] ?? BARE[0];
};

try {
  const archive = await openBlobStore(readConfig(shared));
  await fillArchive(archive, PINS, PINS_EACH);
  await archive.close();
  const spark = await openSparkConnector(join(dir, 'archive'), cassandra.CASSANDRA_CONTACT_POINTS ?? '');
  const bySpark = (connector: SparkConnector) => (setting: (typeof SPARK)[number]) =>
    intoFreshKeyspace(async (env) => PINS / (await connector.write(env.CQL_KEYSPACE ?? '', setting[1])));
  await bare(WARM_UP);
  await ours();
  console.log(`archive → Cassandra, cleaned, ${figure(PINS)} pins; each setting once:`);
  const batches = await fastestBare();
  if (spark !== null) await bySpark(spark)(SPARK[0]);

  const rates = { bare: [] as number[], ours: [] as number[], spark: SPARK.map((): number[] => []) };
  starts.length = 0;
  for (let round = 0; round < ROUNDS; round++) {
    rates.bare.push(await bare(batches));
    rates.ours.push(await ours());
    if (spark === null) continue;
    for (const [n, setting] of SPARK.entries()) rates.spark[n]?.push(await bySpark(spark)(setting));
  }
  print('pinflow', rates.ours);
  console.log(`  start, connecting, the first object and the end: ${figure(median(starts))} ms, not counted`);
  printPeer('the driver alone', rates.bare, rates.ours);
  if (spark !== null) {
    for (const [n, [name]] of SPARK.entries())
      printPeer(`Spark's connector, warm, ${name}`, rates.spark[n] ?? [], rates.ours);
  }
  await spark?.close();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
