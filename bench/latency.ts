import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgresJs from 'postgres';
import { generatePins } from '../src/emulator/generate.ts';
import { startProgram } from '../test/e2e/program.ts';
import { freshDatabase, freshName } from '../test/servers/fresh.ts';
import { hasPeer, PEER_TABLE, postgresConfig, startPeer } from './peer.ts';
import { serverSettings } from './topic.ts';

/**
 * Claim, on a real Kafka and a real PostgreSQL: at 2,000 single POSTs a second the time from a POST to its cleaned row being visible
 * to another client is, at the median, at most half of Redpanda Connect's in the same run, and its p99 is below. Both stand behind
 * our edge, so that only the ways from the log to the row differ; without archive and batch view, which the peer has not got.
 */
const RATE = 2000;
const SECONDS = Number(process.argv[2] ?? 15);
/** Until code and connections are warm, the broker's too; not counted. */
const WARM_UP_SECONDS = 8;
/** How often the table is asked for the pins under way: how far a figure may be too high. */
const LOOK_MS = 5;
/** What is not visible by then is an error. */
const GIVE_UP_MS = 30_000;
const START_MS = 30_000;

const [kafka, postgres] = [await serverSettings('kafka'), await serverSettings('postgres')];
const database = await freshDatabase(postgres);
const sql = postgresJs(database.url, { max: 1, onnotice: () => {} });
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const brokers = (kafka.KAFKA_BROKERS ?? '').split(',');
const seeds = generatePins({ seed: 9 });

/** Milliseconds of every pin posted after the warm-up. */
type Run = { readonly ms: readonly number[]; readonly refused: number };

/** Posts at the rate, whether or not answers come. */
const post = (url: string, underWay: Map<string, number>, counts: { refused: number }, until: number) => {
  const headers = { 'content-type': 'application/json' };
  const one = async () => {
    const pin = seeds.next().value;
    const body = JSON.stringify(pin);
    underWay.set(pin.unique_id, performance.now());
    const answer = await fetch(`${url}/pin/`, { method: 'POST', headers, body }).catch(() => null);
    await answer?.arrayBuffer();
    if (answer?.ok) return;
    underWay.delete(pin.unique_id);
    counts.refused++;
  };
  const began = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    for (const due = ((Math.min(now, until) - began) * RATE) / 1000; sent < due; sent++) void one();
    if (now >= until) clearInterval(timer);
  }, 1);
};

const measure = async (url: string, table: string): Promise<Run> => {
  const underWay = new Map<string, number>();
  const counts = { refused: 0 };
  const countedFrom = performance.now() + WARM_UP_SECONDS * 1000;
  const until = countedFrom + SECONDS * 1000;
  const ms: number[] = [];
  post(url, underWay, counts, until);
  while (performance.now() < until || underWay.size > 0) {
    await Bun.sleep(LOOK_MS);
    const found = await sql`
      select unique_id as id from ${sql(table)} where unique_id = any(${[...underWay.keys()]}::uuid[])`;
    const now = performance.now();
    for (const { id } of found) {
      const at = underWay.get(id as string) ?? now;
      underWay.delete(id as string);
      if (at >= countedFrom) ms.push(now - at);
    }
    if (now > until + GIVE_UP_MS) throw new Error(`${underWay.size} pins are not in ${table} after ${GIVE_UP_MS} ms`);
  }
  return { ms: ms.sort((a, b) => a - b), refused: counts.refused };
};

/** Posts one pin until it is taken and visible: both ways in are open. */
const ready = async (url: string, table: string) => {
  const deadline = performance.now() + START_MS;
  const body = JSON.stringify(seeds.next().value);
  const headers = { 'content-type': 'application/json' };
  for (;;) {
    const answer = await fetch(`${url}/pin/`, { method: 'POST', headers, body }).catch(() => null);
    const [there] = answer?.ok ? await sql`select 1 from ${sql(table)} limit 1`.catch(() => []) : [];
    if (there !== undefined) return;
    if (performance.now() > deadline) throw new Error(`nothing has come to ${table} within ${START_MS} ms`);
    await Bun.sleep(100);
  }
};

const settings = () => ({
  ...kafka,
  ...(database.settings as Record<string, string>),
  PIN_TOPIC: freshName('bench'),
  DATA_DIR: dir,
  WORKERS_ARCHIVE: '0',
  WORKERS_CLEAN: '0',
});

const ours = async () => {
  const program = await startProgram(settings());
  try {
    await ready(program.url, 'pins');
    return await measure(program.url, 'pins');
  } finally {
    await program.kill('SIGTERM');
  }
};

/** Its own HTTP input is slower than our edge, and would count against it. */
const peer = async () => {
  const env = { ...settings(), WORKERS_STREAM: '0' };
  await sql.unsafe(PEER_TABLE);
  const program = await startProgram(env);
  const process = startPeer(postgresConfig(brokers, env.PIN_TOPIC, `${database.url}?sslmode=disable`));
  try {
    await ready(program.url, 'peer_pins');
    return await measure(program.url, 'peer_pins');
  } finally {
    await process.stop();
    await program.kill('SIGTERM');
  }
};

const at = ({ ms }: Run, share: number) => ms[Math.min(ms.length - 1, Math.floor(ms.length * share))] ?? Number.NaN;
const BOUNDS_MS = [10, 20, 30, 40, 60, 80, 100, 150, 200, 400, 1000, Number.POSITIVE_INFINITY];

const print = (name: string, run: Run) => {
  const figures = [['p50', 0.5] as const, ['p90', 0.9] as const, ['p99', 0.99] as const, ['max', 1] as const];
  const text = figures.map(([label, share]) => `${label} ${at(run, share).toFixed(0)} ms`).join(', ');
  console.log(`${name}: ${text} (${run.ms.length} pins${run.refused === 0 ? '' : `, ${run.refused} refused`})`);
  let below = 0;
  const shares = BOUNDS_MS.map((bound) => {
    const upTo = run.ms.findLastIndex((ms) => ms < bound) + 1;
    const share = (100 * (upTo - below)) / run.ms.length;
    below = upTo;
    return `${bound === Number.POSITIVE_INFINITY ? 'more' : `<${bound}`} ${share.toFixed(1)}%`;
  });
  console.log(`  ${shares.join('  ')}`);
};

try {
  const own = await ours();
  print(`POST → row visible at ${RATE} pins/s: pinflow`, own);
  if (hasPeer) {
    const other = await peer();
    print('  Redpanda Connect', other);
    console.log(
      `  ratio at p50 ${(at(own, 0.5) / at(other, 0.5)).toFixed(2)}, at p99 ${(at(own, 0.99) / at(other, 0.99)).toFixed(2)}`,
    );
  }
} finally {
  await sql.end();
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
}
