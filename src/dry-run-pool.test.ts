import { afterAll, beforeAll, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openFsBlobStore } from './blob/fs.ts';
import { environmentWith } from './config.ts';
import { openCountingPool } from './dry-run-pool.ts';
import { isPinflowError } from './errors.ts';
import { objectCounter } from './workers/clean-count.ts';
import { pinLine, putObject, tempFolder } from './workers/clean-fixture.ts';

let dir: string;
const OBJECTS = [0, 10, 20, 30].map((firstOffset) => ({ partition: 0, firstOffset }));

beforeAll(async () => {
  dir = await tempFolder();
  const store = openFsBlobStore({ dir: join(dir, 'archive') });
  for (const { firstOffset } of OBJECTS) {
    const lines = Array.from({ length: 9 }, (_, i) => pinLine(firstOffset + i, { title: i < 2 ? 'Untitled' : '' }));
    await putObject(store, 0, firstOffset, [...lines, 'no pin']);
  }
  const damaged = await putObject(store, 1, 0, [pinLine(99)]);
  await store.put(damaged.key, Buffer.from('not gzip'), { ifAbsent: false });
  await store.close();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Processes whose parent this one is. */
const childrenOf = (parent: number): readonly number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]) === parent;
      } catch {
        return false;
      }
    });

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('processes side by side count what one alone counts, and say which object is damaged', async () => {
  const store = openFsBlobStore({ dir: join(dir, 'archive') });
  const pool = openCountingPool(4, { DATA_DIR: dir });
  try {
    expect(pool.counters.length).toBeGreaterThan(0);
    const alone = objectCounter(store);
    await Promise.all(
      pool.counters.map(async (count) => {
        for (const object of OBJECTS) expect(await count(object)).toEqual(await alone(object));
      }),
    );
    const [count] = pool.counters;
    expect(await count?.({ partition: 1, firstOffset: 0 })).toMatchObject({
      damaged: expect.stringContaining('SHA-256'),
    });
    expect(await count?.({ partition: 7, firstOffset: 0 })).toEqual({ damaged: 'it is not in the manifest' });
  } finally {
    await pool.close();
    await store.close();
  }
});

test('what a store says no to reaches who asked, with its code', async () => {
  const pool = openCountingPool(1, {
    S3_BUCKET: 'b',
    S3_ENDPOINT: 'http://127.0.0.1:1',
    AWS_ACCESS_KEY_ID: 'a',
    AWS_SECRET_ACCESS_KEY: 'b',
  });
  try {
    const error = await pool.counters[0]?.({ partition: 0, firstOffset: 0 }).catch((e: unknown) => e);
    expect(isPinflowError(error, 'blob_unavailable')).toBe(true);
  } finally {
    await pool.close();
  }
});

test('a process that is killed fails what it was at', async () => {
  const before = childrenOf(process.pid);
  const pool = openCountingPool(1, { DATA_DIR: dir });
  const [child] = childrenOf(process.pid).filter((pid) => !before.includes(pid));
  const counting = pool.counters[0]?.({ partition: 0, firstOffset: 0 });
  process.kill(child as number, 'SIGKILL');
  const error = await counting?.catch((e: unknown) => e);
  expect(String(error)).toContain('ended with SIGKILL');
  // And what it is given after that: nobody waits for an answer of the dead.
  const late = await pool.counters[0]?.({ partition: 0, firstOffset: 0 }).catch((e: unknown) => e);
  expect(String(late)).toContain('ended with SIGKILL');
  await pool.close();
});

test('a parent that is killed leaves no process behind', async () => {
  const script = `import { openCountingPool } from ${JSON.stringify(join(import.meta.dir, 'dry-run-pool.ts'))};
    const pool = openCountingPool(2, { DATA_DIR: ${JSON.stringify(dir)} });
    await Promise.all(pool.counters.map((count) => count({ partition: 0, firstOffset: 0 })));
    console.log('counted');
    setInterval(() => {}, 1000);`;
  const parent = Bun.spawn([process.execPath, '-e', script], { stdout: 'pipe', env: environmentWith({}) });
  await parent.stdout.getReader().read();
  const children = childrenOf(parent.pid);
  expect(children.length).toBeGreaterThan(0);
  parent.kill('SIGKILL');
  await parent.exited;
  while (children.some(isAlive)) await Bun.sleep(20);
});
