import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { listManifest } from '../src/blob/archive.ts';
import { readArchiveObject, readArchiveText } from '../src/blob/archive-object.ts';
import { openFsBlobStore } from '../src/blob/fs.ts';
import { cleanLines } from '../src/workers/clean-lines.ts';
import { fillArchive } from './archive-files.ts';

/**
 * Archive → cleaned rows, no store, beside warm PySpark on the same files (wanted: three times its speed) and JSON.parse alone, in memory that does not grow with the archive.
 * `PYSPARK` is the Python of an environment with pyspark 3.5 (`python3 -m venv x && x/bin/pip install pyspark==3.5.1`); Spark has both cores,
 * pinflow one thread. Rounds of the two take turns, as the machine may be shared; the CPU seconds hold also where it is.
 */
const { values } = parseArgs({
  options: { pins: { type: 'string', default: '500000' }, rounds: { type: 'string', default: '3' } },
});
const PINS = Number(values.pins);
const ROUNDS = Number(values.rounds);
const PINS_EACH = 20_000;
const MIB = 1024 * 1024;

const python = process.env.PYSPARK;
const dir = mkdtempSync(join(tmpdir(), 'pinflow-spark-'));
const store = openFsBlobStore({ dir });

const cleanAll = async (): Promise<{ readonly seconds: number; readonly cpu: number; readonly peakMib: number }> => {
  const at = performance.now();
  const cpuAt = process.cpuUsage();
  let rows = 0;
  let peak = 0;
  for await (const entry of listManifest(store, 0)) {
    rows += (await cleanLines(await readArchiveText(store, entry))).rows.length;
    peak = Math.max(peak, process.memoryUsage.rss());
  }
  if (rows !== PINS) throw new Error(`${rows} rows, not ${PINS}`);
  const { user, system } = process.cpuUsage(cpuAt);
  return { seconds: (performance.now() - at) / 1000, cpu: (user + system) / 1e6, peakMib: peak / MIB };
};

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

type Spark = { readonly start: number; readonly cold: number; readonly warm: number; readonly cpu: number };
const spark = async (): Promise<Spark> => {
  const child = Bun.spawn([python ?? '', join(import.meta.dir, 'spark.py'), dir, '3'], {
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
  let best = Number.POSITIVE_INFINITY;
  let limit = Number.POSITIVE_INFINITY;
  let leastCpu = Number.POSITIVE_INFINITY;
  const peaks: number[] = [];
  let peer: Spark | null = null;
  for (let round = 0; round < ROUNDS; round++) {
    const { seconds, cpu, peakMib } = await cleanAll();
    best = Math.min(best, seconds);
    leastCpu = Math.min(leastCpu, cpu);
    peaks.push(Math.round(peakMib));
    limit = Math.min(limit, await parseAll());
    if (python === undefined) continue;
    const found = await spark();
    peer = peer === null || found.warm < peer.warm ? found : peer;
  }
  console.log(
    `archive → cleaned rows, ${PINS.toLocaleString('en')} pins: pinflow ${figure(best)}, RSS ${peaks.join(', ')} MiB`,
  );
  console.log(`  the limit, JSON.parse of the same lines alone: ${figure(limit)}; ratio ${(limit / best).toFixed(2)}`);
  if (peer !== null) {
    console.log(`  PySpark, warm: ${figure(peer.warm)}; ratio ${(peer.warm / best).toFixed(2)}`);
    console.log(`  the limit is ${(peer.warm / limit).toFixed(2)} of PySpark`);
    console.log(
      `  CPU: pinflow ${leastCpu.toFixed(2)} s, PySpark, warm, ${peer.cpu.toFixed(2)} s; ratio ${(peer.cpu / leastCpu).toFixed(2)}`,
    );
    console.log(`  PySpark, cold: ${figure(peer.cold)} after ${peer.start.toFixed(1)} s of start-up`);
  }
} finally {
  await store.close();
  rmSync(dir, { recursive: true, force: true });
}
