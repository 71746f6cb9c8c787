import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { createLogger } from '../logger.ts';
import { join, recordOf, until } from './contract.ts';
import type { PinLog } from './log.ts';
import { openSqliteLog } from './sqlite.ts';

/** The embedded log under real processes that are killed, suspended, starved, or simply there at the same time. */
const CHILD = path(import.meta.dir, 'sqlite-child.fixture.ts');
const TEST_TIMEOUT_MS = 120_000;

/** @param command such as `append <dir> <calls>` */
const startChild = (command: readonly (string | number)[], shell?: string) => {
  const args = [process.execPath, CHILD, ...command.map(String)];
  const child = Bun.spawn(shell === undefined ? args : ['sh', '-c', `${shell}; exec "$@"`, 'sh', ...args], {
    stdout: 'pipe',
    stderr: 'inherit',
  });
  const lines: string[] = [];
  const reading = (async () => {
    const decoder = new TextDecoder();
    let rest = '';
    for await (const chunk of child.stdout) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      // The last one has no line end yet: what it says is not whole.
      rest = parts.pop() ?? '';
      lines.push(...parts);
    }
  })();
  return {
    child,
    lines,
    ended: async () => {
      await child.exited;
      await reading;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await child.exited;
      await reading;
    },
  };
};

const withFolder = (body: (dir: string) => Promise<void>) => async () => {
  const dir = await mkdtemp(path(tmpdir(), 'pinflow-process-'));
  try {
    await body(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
};

const open = (dir: string, sessionTimeoutMs = 1000): Promise<PinLog> =>
  openSqliteLog({
    dir,
    topic: 'pins',
    partitions: 3,
    retentionHours: 24,
    retentionBytes: 2 ** 40,
    maxPendingBytes: 2 ** 28,
    groups: [],
    logger: createLogger('silent', 'test'),
    sessionTimeoutMs,
  });

const ackedOf = (lines: readonly string[]) => lines.filter((line) => /^\d/.test(line));

/** Every record of the log as the child says it: `<partition> <offset> <value>`; offsets are checked to be one run. */
const allOf = async (log: PinLog): Promise<ReadonlySet<string>> => {
  const all = new Set<string>();
  for (const { partition, start, end } of await log.partitions()) {
    const records = await log.read({ partition, offset: start }, end - start + 1);
    expect(records.map((r) => r.offset)).toEqual(Array.from({ length: end - start }, (_, i) => start + i));
    for (const r of records) all.add(`${partition} ${r.offset} ${new TextDecoder().decode(r.value).split(' ')[0]}`);
  }
  return all;
};

describe('processes on one embedded log', () => {
  test(
    'kill -9 at any moment loses nothing that was acked, and leaves no hole',
    withFolder(async (dir) => {
      const acked: string[] = [];
      for (let round = 0; round < 6; round++) {
        const { lines, kill } = startChild(['append', dir, 1_000_000]);
        await until('it appends', () => ackedOf(lines).length > 0);
        await Bun.sleep(Math.random() * 150);
        await kill();
        acked.push(...ackedOf(lines));
      }
      const log = await open(dir);
      const all = await allOf(log);
      expect(acked.length).toBeGreaterThan(6);
      expect(acked.filter((line) => !all.has(line))).toEqual([]);
      await log.close();
    }),
    TEST_TIMEOUT_MS,
  );

  test(
    'several append at once, each record once, without a hole',
    withFolder(async (dir) => {
      const children = [1, 2, 3].map(() => startChild(['append', dir, 300]));
      await Promise.all(children.map(({ ended }) => ended()));
      const acked = children.flatMap(({ lines }) => ackedOf(lines));
      expect(children.map(({ lines }) => lines.at(-1))).toEqual(['done', 'done', 'done']);
      const log = await open(dir);
      const all = await allOf(log);
      expect(new Set(acked).size).toBe(acked.length);
      expect(all.size).toBe(acked.length);
      expect(acked.every((line) => all.has(line))).toBe(true);
      await log.close();
    }),
    TEST_TIMEOUT_MS,
  );

  test(
    'a write the system refuses fails its calls with `disk_full` and nothing else',
    withFolder(async (dir) => {
      // 512-byte blocks: no file may pass 1 MiB. The signal is ignored, so that the write itself fails.
      const { lines, ended } = startChild(['append', dir, 2000], `trap '' XFSZ; ulimit -f 2048`);
      await ended();
      const errors = lines.filter((line) => line.startsWith('error'));
      expect(errors.length).toBeGreaterThan(0);
      expect(new Set(errors)).toEqual(new Set(['error disk_full']));
      const log = await open(dir);
      const all = await allOf(log);
      const acked = ackedOf(lines);
      expect(acked.length).toBeGreaterThan(0);
      expect(all.size).toBe(acked.length);
      expect(acked.every((line) => all.has(line))).toBe(true);
      await log.append([recordOf('later', 'there is room again')]);
      await log.close();
    }),
    TEST_TIMEOUT_MS,
  );

  test(
    'the partitions of a killed member go to another when its session ends',
    withFolder(async (dir) => {
      const { lines, kill } = startChild(['consume', dir, 1000, 0]);
      await until('it has all', () => lines.filter((line) => line.startsWith('assigned')).length === 3);
      await kill();
      const log = await open(dir);
      const member = join(log);
      await until('the heir has all', () => member.owned.size === 3);
      await member.consumer.close();
      await log.close();
    }),
    TEST_TIMEOUT_MS,
  );

  test(
    'a member that was suspended past its session is fenced and gives up what it had',
    withFolder(async (dir) => {
      const log = await open(dir);
      await log.append(Array.from({ length: 30 }, (_, i) => recordOf(`k${i}`, 'v')));
      const { child, lines, kill } = startChild(['consume', dir, 1000, 500]);
      await until('it is in a batch of each partition', () => lines.filter((l) => l.startsWith('batch')).length === 3);
      child.kill('SIGSTOP');
      const member = join(log);
      await until('the heir has all, and reads all', () => member.owned.size === 3 && member.records.length === 30);
      child.kill('SIGCONT');
      await until('each of its commits is refused', () => lines.filter((l) => l.startsWith('fenced')).length === 3);
      await until('it gives up all', () => lines.filter((l) => l.startsWith('revoked')).length === 3);
      expect(lines.filter((l) => l.startsWith('committed'))).toEqual([]);
      await until('it is a member again', () => member.owned.size < 3);
      await kill();
      await member.consumer.close();
      await log.close();
    }),
    TEST_TIMEOUT_MS,
  );
});
