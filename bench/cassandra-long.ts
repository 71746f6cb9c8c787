import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import postgresJs from 'postgres';
import { openBlobStore } from '../src/blob/open.ts';
import { readConfig } from '../src/config.ts';
import { openCassandraPinStore } from '../src/db/pin-store/cassandra.ts';
import { CLI, environment, runCommand } from '../test/e2e/program.ts';
import { cassandraOptions, dropKeyspaces } from '../test/fixtures/cassandra.ts';
import { freshDatabase, freshKeyspace } from '../test/servers/fresh.ts';
import { fillArchive } from './archive-files.ts';
import { memoryOf } from './process.ts';
import { serverSettings } from './topic.ts';

/**
 * Aim, on a real Cassandra: one long batch run, archive → Cassandra, in memory that does not grow with the archive. Prints the most memory
 * of each tenth of its time, and the rate of each fifth of its objects; the rows are counted at the end.
 */
const { values } = parseArgs({ options: { pins: { type: 'string', default: '2000000' } } });
const PINS = Number(values.pins);
const PINS_EACH = 20_000;
const SAMPLE_MS = 200;
const PARTS = 10;
const MIB = 1024 * 1024;

const cassandra = await serverSettings('cassandra');
const database = await freshDatabase(await serverSettings('postgres'));
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const keyspace = freshKeyspace();
const env: Record<string, string> = {
  ...cassandra,
  ...(database.settings as Record<string, string>),
  DATA_DIR: dir,
  CLEAN_CRON: 'off',
  CQL_KEYSPACE: keyspace,
};

/** Runs `clean` to its end. @returns its resident memory over time, bytes */
const clean = async (): Promise<readonly number[]> => {
  const child = Bun.spawn([process.execPath, CLI, 'clean', '--format', 'json'], {
    env: environment(env),
    stdout: 'ignore',
  });
  const samples: number[] = [];
  const timer = setInterval(() => samples.push(memoryOf(child.pid).now), SAMPLE_MS);
  const code = await child.exited.finally(() => clearInterval(timer));
  if (code !== 0) throw new Error(`clean ended with ${code}`);
  return samples;
};

const figure = (n: number) => Math.round(n).toLocaleString('en');

try {
  const archive = await openBlobStore(readConfig(env));
  await fillArchive(archive, PINS, PINS_EACH);
  await archive.close();
  await runCommand(env, ['migrate']);
  const samples = await clean();
  const sql = postgresJs(database.url, { max: 1 });
  const ends = (await sql`select extract(epoch from ended_at)::float8 as at from batch_run_steps order by 1`).map(
    ({ at }) => Number(at),
  );
  await sql.end();
  const part = Math.ceil(samples.length / PARTS);
  const memory = Array.from({ length: PARTS }, (_, n) => Math.max(...samples.slice(n * part, (n + 1) * part)) / MIB);
  const rates = [0.2, 0.4, 0.6, 0.8, 1].map((share) => {
    const [from, to] = [share - 0.2, share].map((at) => Math.round(at * (ends.length - 1))) as [number, number];
    return ((to - from) * PINS_EACH) / ((ends[to] as number) - (ends[from] as number));
  });
  const store = openCassandraPinStore(cassandraOptions(cassandra, keyspace));
  const rows = await store.count();
  await store.close();
  if (rows !== PINS) throw new Error(`${rows} rows, not ${PINS}`);
  console.log(
    `archive → Cassandra, ${figure(PINS)} pins in ${ends.length} objects, one run: ${rates.map(figure).join(', ')} rows/s by fifths`,
  );
  console.log(`  memory at most, by tenths of its time: ${memory.map(figure).join(', ')} MiB`);
} finally {
  await dropKeyspaces(cassandra, [keyspace]);
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
}
