import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgresJs from 'postgres';
import { readConfig } from '../src/config.ts';
import { startWorkers } from '../test/e2e/program.ts';
import { freshDatabase, freshName } from '../test/servers/fresh.ts';
import { hasPeer, PEER_TABLE, postgresConfig, startPeer } from './peer.ts';
import { cpuOf, memoryOf } from './process.ts';
import { fillLog, serverSettings } from './topic.ts';

/**
 * Aim, on a real Kafka and a real PostgreSQL: log → Postgres, cleaned, at three times Redpanda Connect's rows a second and at half
 * of a plain COPY of the same rows into the same table. The rate is that of the steady state, from the first row to the
 * last; how long each took from its start to its first row is printed apart.
 */
const PINS = Number(process.argv[2] ?? 1_000_000);
const POLL_MS = 50;
/** A table that has not grown for so long may have all its rows: they are counted. */
const QUIET_MS = 5000;
const GIVE_UP_MS = 600_000;
const MIB = 1024 * 1024;

const [kafka, postgres] = [await serverSettings('kafka'), await serverSettings('postgres')];
const database = await freshDatabase(postgres);
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const env: Record<string, string> = {
  ...kafka,
  ...(database.settings as Record<string, string>),
  PIN_TOPIC: freshName('bench'),
  DATA_DIR: dir,
  WORKERS_ARCHIVE: '0',
  WORKERS_CLEAN: '0',
  WORKERS_STREAM: '1',
  // As `bun run work` has it: garbage is collected as on a small machine, however much memory there is.
  BUN_JSC_forceRAMSize: '536870912',
};
const config = readConfig(env);
const sql = postgresJs(database.url, { max: 1, onnotice: () => {} });

/** Of the table itself, without indexes: grows with its rows, and asking costs nothing, unlike a count. */
const bytesOf = async (table: string) =>
  Number((await sql`select coalesce(pg_relation_size(to_regclass(${table})), 0) as bytes`)[0]?.bytes);

const rowsOf = async (table: string) => Number((await sql`select count(*) as rows from ${sql(table)}`)[0]?.rows);

type Growth = { readonly firstMs: number; readonly rowsPerSecond: number };

/** Watches a table from now until it has all pins. @param each called at every look */
const watchGrowth = async (table: string, each: (bytes: number) => void = () => {}): Promise<Growth> => {
  const began = performance.now();
  let [first, last] = [
    { at: 0, bytes: 0 },
    { at: began, bytes: 0 },
  ];
  for (;;) {
    const bytes = await bytesOf(table);
    const at = performance.now();
    each(bytes);
    if (first.bytes === 0 && bytes > 0) first = { at, bytes };
    if (bytes > last.bytes) last = { at, bytes };
    if (bytes > 0 && at - last.at > QUIET_MS && (await rowsOf(table)) === PINS) break;
    if (at - began > GIVE_UP_MS) throw new Error(`${table} has not got all pins within ${GIVE_UP_MS} ms`);
    await Bun.sleep(POLL_MS);
  }
  const share = (last.bytes - first.bytes) / last.bytes;
  return { firstMs: first.at - began, rowsPerSecond: (PINS * share * 1000) / (last.at - first.at) };
};

const ours = async () => {
  const workers = startWorkers(env);
  const samples: { readonly bytes: number; readonly memory: number }[] = [];
  try {
    const growth = await watchGrowth('pins', (bytes) => samples.push({ bytes, memory: memoryOf(workers.pid).now }));
    const [{ peak }, cpu] = [memoryOf(workers.pid), cpuOf(workers.pid)];
    const all = samples.at(-1)?.bytes ?? 0;
    /** Most of it while the table had this share of its rows. */
    const mostWithin = (from: number, to: number) =>
      Math.max(...samples.flatMap(({ bytes, memory }) => (bytes > from * all && bytes <= to * all ? memory : [])));
    const memory = [0, 0.1, 0.25, 0.5, 0.75].map((from, n, froms) => mostWithin(from, froms[n + 1] ?? 1));
    return { ...growth, cpu, start: samples.findLast(({ bytes }) => bytes === 0)?.memory ?? 0, memory, peak };
  } finally {
    await workers.stop();
  }
};

const copy = async () => {
  const file = join(dir, 'pins.copy');
  const psql = (command: string) =>
    Bun.spawn(['psql', database.url, '-qc', command], { stdout: 'inherit', stderr: 'inherit' }).exited;
  await psql(`\\copy pins to '${file}'`);
  await sql`create table pins_copy (like pins including all)`;
  await sql`checkpoint`;
  const watched = watchGrowth('pins_copy');
  await psql(`\\copy pins_copy from '${file}'`);
  return watched;
};

const peer = async () => {
  await sql.unsafe(PEER_TABLE);
  await sql`checkpoint`;
  const dsn = `${database.url}?sslmode=disable`;
  const process = startPeer(postgresConfig(config.KAFKA_BROKERS as string[], config.PIN_TOPIC, dsn));
  try {
    const growth = await watchGrowth('peer_pins');
    return { ...growth, cpu: cpuOf(process.pid) };
  } finally {
    await process.stop();
  }
};

const figure = (n: number) => Math.round(n).toLocaleString('en');
const line = (name: string, { firstMs, rowsPerSecond, cpu }: Growth & { readonly cpu?: number }) =>
  console.log(
    `${name}: ${figure(rowsPerSecond)} rows/s; first row after ${figure(firstMs)} ms${
      cpu === undefined ? '' : `; CPU of its own process ${(cpu / PINS).toFixed(1)} µs a row`
    }`,
  );

try {
  await fillLog(config, PINS);
  const stream = await ours();
  line(`log → Postgres, cleaned, ${figure(PINS)} pins: pinflow`, stream);
  const mib = (bytes: number) => `${figure(bytes / MIB)} MiB`;
  const shares = ['10 %', '25 %', '50 %', '75 %', '100 %'].map((to, n) => `to ${to} ${mib(stream.memory[n] ?? 0)}`);
  console.log(
    `  memory before the first row ${mib(stream.start)}, then at most: ${shares.join(', ')}; ever ${mib(stream.peak)}`,
  );
  const copied = await copy();
  line('  plain COPY of the same rows', copied);
  console.log(`  ratio ${(stream.rowsPerSecond / copied.rowsPerSecond).toFixed(2)}`);
  if (hasPeer) {
    const other = await peer();
    line('  Redpanda Connect', other);
    console.log(`  ratio ${(stream.rowsPerSecond / other.rowsPerSecond).toFixed(2)}`);
  }
} finally {
  await sql.end();
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
}
