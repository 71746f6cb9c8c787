import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { listManifest } from '../src/blob/archive.ts';
import { readArchiveObject } from '../src/blob/archive-object.ts';
import { openFsBlobStore } from '../src/blob/fs.ts';
import { openCountingPool } from '../src/dry-run-pool.ts';
import type { CountObject, ObjectPlace } from '../src/workers/clean-count.ts';
import { fillArchive } from './archive-files.ts';

/**
 * Archive → cleaned rows, no store, as `clean --dry-run` does it, beside warm PySpark on the same files and cores (wanted: three times its
 * speed) and JSON.parse alone on one core, in memory that does not grow with the archive.
 * `PYSPARK` is the Python of an environment with pyspark 3.5 (`python3 -m venv x && x/bin/pip install pyspark==3.5.1`). Rounds of the two
 * take turns, as the machine may be shared; both are warm, and the best round of each counts.
 */
const { values } = parseArgs({
  options: { pins: { type: 'string', default: '500000' }, rounds: { type: 'string', default: '3' } },
});
const PINS = Number(values.pins);
const ROUNDS = Number(values.rounds);
const PINS_EACH = 20_000;

const python = process.env.PYSPARK;
const dir = mkdtempSync(join(tmpdir(), 'pinflow-spark-'));
const archive = join(dir, 'archive');
const store = openFsBlobStore({ dir: archive });

const objects = async (): Promise<ObjectPlace[]> => {
  const all: ObjectPlace[] = [];
  for await (const { partition, firstOffset } of listManifest(store, 0)) all.push({ partition, firstOffset });
  return all;
};

const cleanAll = async (counters: readonly CountObject[]): Promise<number> => {
  const at = performance.now();
  const left = await objects();
  let pins = 0;
  const lane = async (count: CountObject) => {
    for (let object = left.pop(); object !== undefined; object = left.pop()) {
      const counted = await count(object);
      if ('damaged' in counted) throw new Error(counted.damaged);
      pins += counted.pins;
    }
  };
  await Promise.all(counters.map(lane));
  if (pins !== PINS) throw new Error(`${pins} pins, not ${PINS}`);
  return (performance.now() - at) / 1000;
};

/** Most memory each process of ours has held so far, MiB. */
const peaks = (): readonly number[] =>
  Bun.spawnSync(['pgrep', '-P', `${process.pid}`])
    .stdout.toString()
    .trim()
    .split('\n')
    .map((pid) => Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024));

/** The limit: the same objects read, unpacked and cut into lines, and each line parsed, with nothing made of it. */
const parseAll = async (): Promise<number> => {
  const at = performance.now();
  const decoder = new TextDecoder();
  let pins = 0;
  for await (const entry of listManifest(store, 0)) {
    for (const { line } of await readArchiveObject(store, entry)) {
      if (typeof (JSON.parse(decoder.decode(line)) as { readonly index: unknown }).index === 'number') pins++;
    }
  }
  if (pins !== PINS) throw new Error(`${pins} pins, not ${PINS}`);
  return (performance.now() - at) / 1000;
};

type Spark = { readonly start: number; readonly cold: number; readonly warm: number };
const spark = async (): Promise<Spark> => {
  const child = Bun.spawn([python ?? '', join(import.meta.dir, 'spark.py'), archive, '3'], {
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    stderr: 'ignore',
  });
  const lines = (await new Response(child.stdout).text()).trim().split('\n');
  if ((await child.exited) !== 0)
    throw new Error('PySpark failed: is PYSPARK the Python of an environment with pyspark?');
  return JSON.parse(lines.at(-1) ?? '') as Spark;
};

const figure = (seconds: number) => `${Math.round(PINS / seconds).toLocaleString('en')} pins/s`;

try {
  await fillArchive(store, PINS, PINS_EACH);
  const pool = openCountingPool(PINS / PINS_EACH, { DATA_DIR: dir });
  await cleanAll(pool.counters);
  const best = { all: Number.POSITIVE_INFINITY, one: Number.POSITIVE_INFINITY, limit: Number.POSITIVE_INFINITY };
  const memory: (readonly number[])[] = [];
  let peer: Spark | null = null;
  for (let round = 0; round < ROUNDS; round++) {
    best.all = Math.min(best.all, await cleanAll(pool.counters));
    memory.push(peaks());
    best.one = Math.min(best.one, await cleanAll(pool.counters.slice(0, 1)));
    best.limit = Math.min(best.limit, await parseAll());
    if (python === undefined) continue;
    const found = await spark();
    peer = peer === null || found.warm < peer.warm ? found : peer;
  }
  await pool.close();
  const { all, one, limit } = best;
  console.log(
    `archive → cleaned rows, ${PINS.toLocaleString('en')} pins: pinflow ${figure(all)} in ${pool.counters.length} processes, ${figure(one)} in one`,
  );
  console.log(
    `  most memory of each process, round by round: ${memory.map((each) => each.join(' and ')).join(', ')} MiB`,
  );
  console.log(
    `  the limit of one, JSON.parse of the same lines alone: ${figure(limit)}; ratio ${(limit / one).toFixed(2)}`,
  );
  if (peer !== null) {
    console.log(
      `  PySpark, warm: ${figure(peer.warm)}; ratio ${(peer.warm / all).toFixed(2)} (one process ${(peer.warm / one).toFixed(2)})`,
    );
    console.log(`  PySpark, cold: ${figure(peer.cold)} after ${peer.start.toFixed(1)} s of start-up`);
  }
} finally {
  await store.close();
  rmSync(dir, { recursive: true, force: true });
}
