import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../src/config.ts';
import { generatePins } from '../src/emulator/generate.ts';
import { eventually, type Running, startProgram } from '../test/e2e/program.ts';
import { memoryOf } from './process.ts';

/**
 * Claims, on the embedded parts: the edge answers within a second of the start on an existing DATA_DIR; 100,000 pins go from POST to log,
 * archive, batch view and speed view in under 60 s; the whole process stays under 600 MB while it does.
 */
const PINS = 100_000;
const BATCH = 1000;
const CONNECTIONS = 4;
const STARTS = 5;
const GIVE_UP_MS = 300_000;
const POLL_MS = 200;

/** What package.json's `dev` sets: the engine then collects garbage as if the machine had 512 MB, not all of its memory. */
const AS_DEV = { BUN_JSC_forceRAMSize: '536870912' };

const dir = mkdtempSync(join(tmpdir(), 'pinflow-bench-'));
// A batch run each second, so that the figure is the pipeline's and not the cron's.
const env = { ...AS_DEV, DATA_DIR: dir, CLEAN_CRON: '* * * * * *', ARCHIVE_MAX_SECONDS: '2' };

const rssMb = (pid: number): number => memoryOf(pid).now / 1024 ** 2;

const post = async (program: Running, bodies: readonly string[]) => {
  let next = 0;
  const loop = async () => {
    for (let body = bodies[next++]; body !== undefined; body = bodies[next++]) {
      const response = await fetch(`${program.url}/pins`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body,
      });
      if (response.status !== 200) throw new Error(`POST /pins answered ${response.status}: ${await response.text()}`);
      await response.arrayBuffer();
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, loop));
};

type Stages = { readonly stages: readonly { readonly name: string; readonly pins: number }[] };

/** Seconds until each place has all pins. */
const waitForAll = async (program: Running, startedAt: number) => {
  const doneAt: Record<string, number> = {};
  await eventually('all pins everywhere', GIVE_UP_MS, async () => {
    const { stages } = (await (await fetch(`${program.url}/status`)).json()) as Stages;
    for (const { name, pins } of stages) if (pins >= PINS) doneAt[name] ??= (performance.now() - startedAt) / 1000;
    return stages.every(({ name }) => doneAt[name] !== undefined) ? true : null;
  });
  return doneAt;
};

const firstStart = await startProgram(env);
await eventually('every part ready', GIVE_UP_MS, async () =>
  (await fetch(`${firstStart.url}/readyz`)).ok ? true : null,
);
const idleMb = rssMb(firstStart.pid);
const pins = generatePins({ seed: 3 });
const bodies = Array.from({ length: PINS / BATCH }, () =>
  Array.from({ length: BATCH }, () => JSON.stringify(pins.next().value)).join('\n'),
);
let peakMb = 0;
const sampler = setInterval(() => {
  peakMb = Math.max(peakMb, rssMb(firstStart.pid));
}, POLL_MS);
const startedAt = performance.now();
await post(firstStart, bodies);
const postedIn = (performance.now() - startedAt) / 1000;
const doneAt = await waitForAll(firstStart, startedAt);
clearInterval(sampler);
await firstStart.kill('SIGTERM');

const starts: number[] = [];
for (let i = 0; i < STARTS; i++) {
  const at = performance.now();
  const again = await startProgram(env);
  await fetch(`${again.url}/healthz`);
  starts.push(performance.now() - at);
  await again.kill('SIGKILL');
}
rmSync(dir, { recursive: true, force: true });

const seconds = (n: number | undefined) => `${(n ?? Number.NaN).toFixed(1)} s`;
console.log(
  `${PINS.toLocaleString('en')} pins posted in ${seconds(postedIn)} (partitions: ${readConfig({}).PARTITIONS})`,
);
for (const [name, at] of Object.entries(doneAt)) console.log(`  all in ${name.padEnd(8)} after ${seconds(at)}`);
console.log(`all places after ${seconds(Math.max(...Object.values(doneAt)))} (wanted: under 60 s)`);
console.log(`memory: ${idleMb.toFixed(0)} MB idle, ${peakMb.toFixed(0)} MB at the most (wanted: under 600 MB)`);
console.log(
  `start to answer on an existing DATA_DIR: ${starts.map((ms) => ms.toFixed(0)).join(', ')} ms (wanted: under 1,000 ms)`,
);
