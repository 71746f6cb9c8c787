import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFsBlobStore } from '../../src/blob/fs.ts';
import { pinLine, pinLines, putObject } from '../../src/workers/clean-fixture.ts';
import { runCommand } from './program.ts';

/** The commands of the batch layer as a user calls them, on embedded parts and without a running program. */
const TIMEOUT_MS = 120_000;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-batch-'));
  const store = openFsBlobStore({ dir: join(dir, 'archive') });
  await putObject(store, 0, 0, [...pinLines(0, 20), pinLine(20, { title: 'No Title Data Available' }), 'no pin']);
  await store.close();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const command = (...args: readonly string[]) => runCommand({ DATA_DIR: dir }, args);
const json = async (...args: readonly string[]) => {
  const { code, stdout, stderr } = await command(...args, '--format', 'json');
  if (code !== 0) throw new Error(stderr + stdout);
  return JSON.parse(stdout) as unknown;
};

test(
  'a run by hand, its steps and its quality',
  async () => {
    const [summary] = (await json('clean')) as [{ id: number }];
    expect(summary).toMatchObject({ reason: 'manual', status: 'done', pins: 21, rejects: 1 });
    const run = (await json('runs', 'show', String(summary.id))) as object;
    expect(run).toMatchObject({
      id: summary.id,
      steps: [{ store: 'embedded', status: 'done', pins: 21, errors: 1, rejects: 1 }],
      quality: {
        pins: 21,
        placeholders: { title: { 'No Title Data Available': 1 } },
        rejects: { 'the record is not JSON': 1 },
      },
    });
  },
  TIMEOUT_MS,
);

test(
  'a backfill is tried out, then done; a rebuild; all of them stand in the grid',
  async () => {
    const days = ['--from', '2026-11-23', '--to', '2026-11-23'];
    expect(await json('clean', ...days, '--dry-run')).toMatchObject([{ objects: 1, pins: 21, rejects: 1 }]);
    expect(await json('clean', ...days)).toMatchObject([{ reason: 'backfill', status: 'done', pins: 21 }]);
    expect(await json('clean', '--rebuild')).toMatchObject([{ reason: 'rebuild', status: 'done', pins: 21 }]);
    const { stdout } = await command('runs');
    expect(stdout).toContain('backfill');
    expect(stdout).toContain('rebuild');
    const wrong = await command('clean', '--from', '2026-11-23', '--rebuild');
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('--to');
  },
  TIMEOUT_MS,
);

test(
  'pausing is seen by whoever looks, and is undone',
  async () => {
    expect((await command('runs', 'pause')).code).toBe(0);
    expect((await command('runs')).stderr).toContain('paused by');
    expect((await command('runs', 'resume')).code).toBe(0);
    expect((await command('runs')).stderr).toBe('');
    expect(await json('runs', 'alerts')).toEqual([]);
    expect((await command('runs', 'show', '999')).stderr).toContain('no run 999');
  },
  TIMEOUT_MS,
);
