import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, startProgram } from '../test/e2e/program.ts';
import { freshName } from '../test/servers/fresh.ts';
import { type Load, loadBulk, loadSingles, makeBodies, median } from './load.ts';
import { bulkConfig, requirePeer, singleConfig, startPeer } from './peer.ts';
import { serverSettings } from './topic.ts';

/**
 * Claim: with a real Kafka, acked by all in-sync replicas, the edge takes at least twice Redpanda Connect's pins a second at 256 connections with a
 * lower p99, and at least 100,000 pins a second in NDJSON bodies of 1,000. Rounds alternate.
 */
const ROUNDS = 3;
const SECONDS = 6;
const CONNECTIONS = 256;
const BULK_CONNECTIONS = 8;
const BULK_PINS = 1000;
const BODIES = 16;
const [SINGLE_PORT, BULK_PORT] = [18_096, 18_095];

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

const edge = await startProgram(
  {
    DATA_DIR: dir,
    KAFKA_BROKERS: brokers.join(','),
    PIN_TOPIC: topic,
    DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
  },
  ['edge'],
);
// The topic is made by the edge; the peer writes to it too.
await eventually('the edge takes pins durably', 30_000, async () => {
  const response = await fetch(`${edge.url}/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: bodies.first,
  });
  return response.headers.get('x-pin-durability') === 'broker' ? true : null;
});
const peers = [startPeer(singleConfig(SINGLE_PORT, brokers, topic)), startPeer(bulkConfig(BULK_PORT, brokers, topic))];
const [peerSingle, peerBulk] = [`http://127.0.0.1:${SINGLE_PORT}`, `http://127.0.0.1:${BULK_PORT}`];
await Promise.all([answers(peerSingle), answers(peerBulk)]);

const ours: Load[] = [];
const theirs: Load[] = [];
const bulk = { ours: [] as number[], theirs: [] as number[] };
try {
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await loadSingles({ url: edge.url, connections: CONNECTIONS, seconds: SECONDS }));
    theirs.push(await loadSingles({ url: peerSingle, connections: CONNECTIONS, seconds: SECONDS }));
    bulk.ours.push(await loadBulk({ url: edge.url, connections: BULK_CONNECTIONS, seconds: SECONDS }, bodies));
    bulk.theirs.push(await loadBulk({ url: peerBulk, connections: BULK_CONNECTIONS, seconds: SECONDS }, bodies));
  }
} finally {
  for (const peer of peers) await peer.stop();
  await edge.kill('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
}
const figure = (n: number) => Math.round(n).toLocaleString('en');
const rate = (loads: readonly Load[]) => median(loads.map((load) => load.perSecond));
const p99 = (loads: readonly Load[]) => median(loads.map((load) => load.p99Ms)).toFixed(0);
const errors = (loads: readonly Load[]) => loads.reduce((sum, load) => sum + load.errors, 0);
console.log(`one pin a request, ${CONNECTIONS} connections, Kafka acks=all (median of ${ROUNDS}):`);
console.log(`  pinflow          ${figure(rate(ours))} pins/s, p99 ${p99(ours)} ms, ${errors(ours)} errors`);
console.log(
  `  Redpanda Connect ${figure(rate(theirs))} pins/s, p99 ${p99(theirs)} ms, ${errors(theirs)} errors; ratio ${(rate(ours) / rate(theirs)).toFixed(2)} (wanted: at least 2)`,
);
console.log(`NDJSON of ${BULK_PINS}, ${BULK_CONNECTIONS} connections:`);
console.log(`  pinflow          ${figure(median(bulk.ours))} pins/s (wanted: at least 100,000)`);
console.log(
  `  Redpanda Connect ${figure(median(bulk.theirs))} pins/s; ratio ${(median(bulk.ours) / median(bulk.theirs)).toFixed(2)}`,
);
