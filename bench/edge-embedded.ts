import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProgram } from '../test/e2e/program.ts';
import { loadBulk, loadSingles, makeBodies, median, startStoringNothing } from './load.ts';

/**
 * Claim: the edge with the embedded log, every pin fsynced before its answer, reaches at least half of the same app storing
 * nothing (256 connections, one pin a request), and takes at least 100,000 pins a second in NDJSON bodies of 1,000.
 * Rounds alternate between the two, so that a noisy machine is noisy for both.
 */
const ROUNDS = 3;
const SECONDS = 6;
const CONNECTIONS = 256;
const BULK_CONNECTIONS = 4;
const BULK_PINS = 1000;
const BODIES = 16;

const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
const nothing = await startStoringNothing();
// The workers stay away: this is about the edge and its log; bench/pipeline.ts has them all.
const edge = await startProgram({ DATA_DIR: dir, WORKERS_ARCHIVE: '0', WORKERS_CLEAN: '0', WORKERS_STREAM: '0' });
try {
  const single = {
    stored: [] as number[],
    p99: [] as number[],
    nothing: [] as number[],
    bulk: [] as number[],
    bulkNothing: [] as number[],
  };
  const all = makeBodies(BODIES, BULK_PINS);
  for (let round = 0; round < ROUNDS; round++) {
    const stored = await loadSingles({ url: edge.url, connections: CONNECTIONS, seconds: SECONDS });
    const limit = await loadSingles({ url: nothing.url, connections: CONNECTIONS, seconds: SECONDS });
    if (stored.errors > 0) throw new Error(`${stored.errors} answers were no 2xx`);
    single.stored.push(stored.perSecond);
    single.p99.push(stored.p99Ms);
    single.nothing.push(limit.perSecond);
    single.bulk.push(await loadBulk({ url: edge.url, connections: BULK_CONNECTIONS, seconds: SECONDS }, all));
    single.bulkNothing.push(await loadBulk({ url: nothing.url, connections: BULK_CONNECTIONS, seconds: SECONDS }, all));
  }
  const [stored, limit, bulk, bulkLimit] = [single.stored, single.nothing, single.bulk, single.bulkNothing].map(
    median,
  ) as [number, number, number, number];
  const figure = (n: number) => Math.round(n).toLocaleString('en');
  console.log(
    `one pin a request, ${CONNECTIONS} connections, fsynced: ${figure(stored)} pins/s, p99 ${median(single.p99).toFixed(1)} ms`,
  );
  console.log(
    `  the same app storing nothing: ${figure(limit)} pins/s; ratio ${(stored / limit).toFixed(2)} (wanted: at least 0.50)`,
  );
  console.log(
    `NDJSON of ${BULK_PINS}, ${BULK_CONNECTIONS} connections, fsynced: ${figure(bulk)} pins/s (wanted: at least 100,000)`,
  );
  console.log(`  the same app storing nothing: ${figure(bulkLimit)} pins/s; ratio ${(bulk / bulkLimit).toFixed(2)}`);
} finally {
  nothing.stop();
  await edge.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
}
