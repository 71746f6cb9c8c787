import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../src/config.ts';
import { eventually, startProgram } from '../test/e2e/program.ts';
import { freshName } from '../test/servers/fresh.ts';
import { type Load, loadBulk, loadSingles, makeBodies, median } from './load.ts';
import { bulkConfig, requirePeer, singleConfig, startPeer } from './peer.ts';
import { serverSettings } from './topic.ts';

/**
 * Claim: with a real Kafka, acked by all in-sync replicas, the edge takes at least twice Redpanda Connect's pins a second at 256 connections with a
 * lower p99, and at least 100,000 pins a second in NDJSON bodies of 1,000. The peer uses all cores in one process, an edge about one: it runs as two
 * processes on one port, and as one beside that. The limit of the first is `barest-edge.ts` in two processes. Rounds alternate, after one that does
 * not count: a broker that has just started compiles itself at the cost of who comes first.
 */
const ROUNDS = 5;
const SECONDS = 6;
const CONNECTIONS = 256;
const BULK_CONNECTIONS = 8;
const BULK_PINS = 1000;
const BODIES = 16;
const [SINGLE_PORT, BULK_PORT, SHARED_PORT, LIMIT_PORT] = [18_096, 18_095, 18_094, 18_093];

requirePeer();
const brokers = ((await serverSettings('kafka')).KAFKA_BROKERS as string).split(',');
const topic = freshName('bench');
const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const bodies = makeBodies(BODIES, BULK_PINS);

const answers = (url: string) =>
  eventually(`${url} answers`, 30_000, () =>
    fetch(url).then(
      () => true,
      () => null,
    ),
  );

const startEdge = (name: string, settings: Readonly<Record<string, string>> = {}) =>
  startProgram(
    {
      DATA_DIR: join(dir, name),
      KAFKA_BROKERS: brokers.join(','),
      PIN_TOPIC: topic,
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      ...settings,
    },
    ['edge'],
  );
const alone = await startEdge('alone');
// The topic is made by the edge; the others write to it too.
await eventually('the edge takes pins durably', 30_000, async () => {
  const response = await fetch(`${alone.url}/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: bodies.first,
  });
  return response.headers.get('x-pin-durability') === 'broker' ? true : null;
});
const sharing = { PORT: String(SHARED_PORT), REUSE_PORT: 'true' };
const pair = [await startEdge('first', sharing), await startEdge('second', sharing)] as const;
const { PARTITIONS } = readConfig({});
const startBarest = async () => {
  const command = [
    process.execPath,
    join(import.meta.dir, 'barest-edge.ts'),
    String(LIMIT_PORT),
    topic,
    String(PARTITIONS),
  ];
  const child = Bun.spawn(command, { env: { ...process.env, KAFKA_BROKERS: brokers.join(',') }, stdout: 'pipe' });
  await child.stdout.getReader().read();
  return child;
};
const limits = [await startBarest(), await startBarest()];
const peers = [startPeer(singleConfig(SINGLE_PORT, brokers, topic)), startPeer(bulkConfig(BULK_PORT, brokers, topic))];
const [peerSingle, peerBulk] = [`http://127.0.0.1:${SINGLE_PORT}`, `http://127.0.0.1:${BULK_PORT}`];
await Promise.all([answers(peerSingle), answers(peerBulk)]);

type Contender = {
  readonly name: string;
  readonly single: string;
  /** Null where it takes no NDJSON. */
  readonly bulk: string | null;
  readonly loads: Load[];
  readonly bulkRates: number[];
};
const contender = (name: string, single: string, bulk: string | null): Contender => ({
  name,
  single,
  bulk,
  loads: [],
  bulkRates: [],
});
const one = contender('pinflow, 1 process', alone.url, alone.url);
const two = contender('pinflow, 2 processes', pair[0].url, pair[0].url);
const theirs = contender('Redpanda Connect', peerSingle, peerBulk);
const limit = contender('the barest, 2', `http://127.0.0.1:${LIMIT_PORT}`, null);
const contenders = [one, two, theirs, limit];

try {
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { single, loads } of contenders) {
      const load = await loadSingles({ url: single, connections: CONNECTIONS, seconds: SECONDS });
      if (round > 0) loads.push(load);
    }
    for (const { bulk, bulkRates } of contenders) {
      if (bulk === null) continue;
      const perSecond = await loadBulk({ url: bulk, connections: BULK_CONNECTIONS, seconds: SECONDS }, bodies);
      if (round > 0) bulkRates.push(perSecond);
    }
  }
} finally {
  for (const peer of peers) await peer.stop();
  for (const each of limits) each.kill();
  for (const edge of [alone, ...pair]) await edge.kill('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
}

const figure = (n: number) => Math.round(n).toLocaleString('en');
const rate = ({ loads }: Contender) => median(loads.map((load) => load.perSecond));
const bulkRate = ({ bulkRates }: Contender) => median(bulkRates);
const print = (each: Contender, perSecond: (of: Contender) => number, rest = '') => {
  const ratio = each === theirs ? '' : `; ${(perSecond(each) / perSecond(theirs)).toFixed(2)} of the peer`;
  console.log(`  ${each.name.padEnd(20)} ${figure(perSecond(each))} pins/s${rest}${ratio}`);
};
console.log(
  `one pin a request, ${CONNECTIONS} connections, Kafka acks=all (median of ${ROUNDS}; wanted: at least 2 of the peer):`,
);
for (const each of contenders) {
  const p99 = median(each.loads.map((load) => load.p99Ms)).toFixed(0);
  print(each, rate, `, p99 ${p99} ms, ${each.loads.reduce((sum, load) => sum + load.errors, 0)} errors`);
}
console.log(`NDJSON of ${BULK_PINS}, ${BULK_CONNECTIONS} connections (wanted: at least 100,000 pins/s):`);
for (const each of contenders.filter(({ bulk }) => bulk !== null)) print(each, bulkRate);
