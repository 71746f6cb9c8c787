import { afterAll, describe, expect, test } from 'bun:test';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { isPinflowError, type PinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import { join, logContract, recordOf, until } from './contract.ts';
import type { PinLog } from './log.ts';
import { openSqliteLog, type SqliteLogOptions } from './sqlite.ts';
import { openGroupStore } from './sqlite-groups.ts';
import { openRecordStore } from './sqlite-records.ts';
import { retentionStep } from './sqlite-retention.ts';

const DEFAULTS = {
  topic: 'pins',
  partitions: 3,
  retentionHours: 24,
  retentionBytes: 2 ** 40,
  maxPendingBytes: 2 ** 28,
  groups: [],
  logger: createLogger('silent', 'test'),
  sessionTimeoutMs: 1500,
} satisfies Omit<SqliteLogOptions, 'dir'>;

const HOUR_MS = 3_600_000;
const MIB = 1024 * 1024;

const freshDir = () => mkdtemp(path(tmpdir(), 'pinflow-log-'));

logContract(
  'sqlite',
  async ({ partitions }) => {
    const dir = await freshDir();
    const opened: PinLog[] = [];
    const open = async () => {
      const log = await openSqliteLog({ ...DEFAULTS, dir, partitions });
      opened.push(log);
      return log;
    };
    return {
      log: await open(),
      reopen: open,
      cleanup: async () => {
        await Promise.all(opened.map((log) => log.close()));
        await rm(dir, { recursive: true });
      },
    };
  },
  { lastTimestamp: true },
);

const errorOf = async (work: Promise<unknown>): Promise<PinflowError> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!isPinflowError(error)) throw new Error(`expected a PinflowError, got ${String(error)}`);
  return error;
};

/** Runs `body` in a folder of its own, removed afterwards. */
const inFolder = (body: (dir: string) => Promise<void>) => async () => {
  const dir = await freshDir();
  try {
    await body(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
};

describe('files of the embedded log', () => {
  test(
    'a file that is not a log is told from one, and left alone',
    inFolder(async (dir) => {
      const file = path(dir, 'log-pins.db');
      const junk = 'this is no database, but somebody may need it\n'.repeat(200);
      await writeFile(file, junk);
      const error = await errorOf(openSqliteLog({ ...DEFAULTS, dir }));
      expect([error.code, error.retryable]).toEqual(['config', false]);
      expect(error.message).toContain(file);
      expect(await Bun.file(file).text()).toBe(junk);
    }),
  );

  test(
    'a folder that cannot be made, or written, is a matter of configuration',
    inFolder(async (dir) => {
      await writeFile(path(dir, 'taken'), '');
      expect((await errorOf(openSqliteLog({ ...DEFAULTS, dir: path(dir, 'taken', 'below') }))).code).toBe('config');
      await mkdir(path(dir, 'log-pins.db'));
      expect((await errorOf(openSqliteLog({ ...DEFAULTS, dir }))).code).toBe('config');
    }),
  );

  test(
    'the file of a group is not taken for that of a topic',
    inFolder(async (dir) => {
      await (await openSqliteLog({ ...DEFAULTS, dir })).close();
      const error = await errorOf(openSqliteLog({ ...DEFAULTS, dir, topic: 'pins.groups' }));
      expect(error.code).toBe('config');
    }),
  );

  test(
    'a topic keeps its number of partitions, whatever is asked for later',
    inFolder(async (dir) => {
      await (await openSqliteLog({ ...DEFAULTS, dir, partitions: 2 })).close();
      const log = await openSqliteLog({ ...DEFAULTS, dir, partitions: 5 });
      expect((await log.partitions()).length).toBe(2);
      const positions = await log.append(Array.from({ length: 50 }, (_, i) => recordOf(`k${i}`, 'v')));
      expect(new Set(positions.map((p) => p.partition))).toEqual(new Set([0, 1]));
      await log.close();
    }),
  );

  test(
    'many may open a new topic at once',
    inFolder(async (dir) => {
      const logs = await Promise.all(Array.from({ length: 8 }, () => openSqliteLog({ ...DEFAULTS, dir })));
      const positions = await Promise.all(logs.map((log) => log.append([recordOf('same key', 'v')])));
      expect(positions.flatMap(([p]) => p?.offset ?? -1).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      await Promise.all(logs.map((log) => log.close()));
    }),
  );

  test(
    'more than the bound is refused, and nothing of it is appended',
    inFolder(async (dir) => {
      const log = await openSqliteLog({ ...DEFAULTS, dir, maxPendingBytes: MIB });
      const calls = Array.from({ length: 10 }, (_, i) =>
        log.append([{ key: `k${i}`, value: new Uint8Array(300_000) }]),
      );
      const results = await Promise.allSettled(calls);
      const refused = results.flatMap((r) => (r.status === 'rejected' ? [r.reason as PinflowError] : []));
      expect(refused.length).toBe(7);
      expect(refused.every((error) => error.code === 'overloaded' && error.retryable)).toBe(true);
      expect((await log.partitions()).reduce((sum, p) => sum + p.end, 0)).toBe(3);
      await log.append([recordOf('later', 'there is room again')]);
      await log.close();
    }),
  );
});

describe('start offsets', () => {
  test(
    'an offset the log does not have yet starts at the earliest record, as on Kafka: a log made anew is read',
    inFolder(async (dir) => {
      const log = await openSqliteLog({ ...DEFAULTS, dir, partitions: 1 });
      await log.append([recordOf('a', '0'), recordOf('a', '1')]);
      const member = join(log, { startAt: () => 1000 });
      await until('both are read', () => member.records.length === 2);
      await member.consumer.close();
      await log.close();
    }),
  );
});

type Retained = Awaited<ReturnType<typeof openRetained>>;

/** A log with its stores at hand, to run retention step by step; a clock that is moved. */
const openRetained = async (dir: string, partitions = 1) => {
  const time = { now: Date.UTC(2026, 0, 1) };
  const clock = { now: () => time.now };
  const log = await openSqliteLog({ ...DEFAULTS, dir, partitions, clock });
  const records = await openRecordStore(path(dir, 'log-pins.db'), partitions);
  const groups = await openGroupStore(path(dir, 'log-pins.groups.db'), partitions, DEFAULTS.sessionTimeoutMs);
  return { log, records, groups, clock, time };
};

const retain = ({ records, groups, clock }: Retained, retentionBytes: number, knownGroups: readonly string[]) => {
  let steps = 0;
  while (retentionStep({ records, groups, knownGroups, retentionHours: 1, retentionBytes, clock }) > 0) steps += 1;
  return steps;
};

const closeRetained = async ({ log, records, groups }: Retained) => {
  await log.close();
  records.close();
  groups.close();
};

const commitTo = async (log: PinLog, group: string, nextOffset: number, partition = 0) => {
  const member = join(log, { group });
  await until('it is assigned', () => member.owned.has(partition));
  await member.consumer.commit(partition, nextOffset);
  await member.consumer.close();
};

const many = (count: number, bytes: number) =>
  Array.from({ length: count }, (_, i) => ({ key: `k${i}`, value: new Uint8Array(bytes) }));

describe('retention', () => {
  test(
    'deletes what is too old, in chunks, up to the slowest group; a group that never came holds everything',
    inFolder(async (dir) => {
      const retained = await openRetained(dir);
      const { log, time } = retained;
      for (let i = 0; i < 2000; i++) await log.append(many(1, 10));
      time.now += 2 * HOUR_MS;
      await log.append(many(100, 10));

      await commitTo(log, 'archive', 1800);
      expect(retain(retained, 2 ** 40, ['archive', 'stream'])).toBe(0);
      await commitTo(log, 'stream', 2050);
      expect(retain(retained, 2 ** 40, ['archive', 'stream'])).toBeGreaterThan(1);
      expect(await log.partitions()).toEqual([{ partition: 0, start: 1800, end: 2100 }]);
      await commitTo(log, 'archive', 2100);
      retain(retained, 2 ** 40, ['archive', 'stream']);
      expect(await log.partitions()).toEqual([{ partition: 0, start: 2000, end: 2100 }]);
      await closeRetained(retained);
    }),
  );

  test(
    'a commit within a batch keeps the whole batch, and what is old in other partitions goes nevertheless',
    inFolder(async (dir) => {
      const retained = await openRetained(dir, 2);
      const { log, time } = retained;
      await log.append(many(100, 10));
      time.now += 2 * HOUR_MS;
      await log.append(many(100, 10));
      const [ended, begun] = (await log.partitions()).map(({ end }) => end) as [number, number];
      await commitTo(log, 'archive', 1, 0);
      await commitTo(log, 'archive', begun, 1);
      retain(retained, 2 ** 40, ['archive']);
      const [first, second] = await log.partitions();
      expect(first).toEqual({ partition: 0, start: 0, end: ended });
      expect(second?.start).toBeWithin(1, begun);
      await closeRetained(retained);
    }),
  );

  test(
    'deletes the oldest beyond the bytes, and counts on when nothing is left',
    inFolder(async (dir) => {
      const retained = await openRetained(dir);
      const { log, records } = retained;
      for (let i = 0; i < 8; i++) await log.append(many(500, 4000));
      const before = records.usedBytes();
      expect(before).toBeGreaterThan(16_000_000);
      retain(retained, before / 2, []);
      expect(records.usedBytes()).toBeWithin(before / 4, before / 2);
      retain(retained, 0, []);
      expect(await log.partitions()).toEqual([{ partition: 0, start: 4000, end: 4000 }]);
      expect(await log.append(many(1, 1))).toEqual([{ partition: 0, offset: 4000 }]);
      await closeRetained(retained);
    }),
  );

  test(
    'who stood before the first kept record goes on there',
    inFolder(async (dir) => {
      const retained = await openRetained(dir);
      const { log, time } = retained;
      await log.append(many(600, 10));
      await commitTo(log, 'slow', 10);
      time.now += 2 * HOUR_MS;
      await log.append(many(5, 10));
      retain(retained, 2 ** 40, []);
      const member = join(log, { group: 'slow' });
      await until('the five kept are read', () => member.records.length === 5);
      expect(member.records[0]?.offset).toBe(600);
      await member.consumer.close();
      await closeRetained(retained);
    }),
  );
});

const mountPoint = await freshDir();
const mounted = Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', mountPoint]);
if (!mounted.success) {
  console.log(
    `skipped: a full disk that is freed again (needs the right to mount a tmpfs: ${mounted.stderr.toString().trim()})`,
  );
}
afterAll(async () => {
  if (mounted.success) Bun.spawnSync(['umount', mountPoint]);
  await rm(mountPoint, { recursive: true });
});

describe.skipIf(!mounted.success)('a full disk', () => {
  test('fails the appends of that moment, keeps all that was acked, and goes on when there is room', async () => {
    const log = await openSqliteLog({ ...DEFAULTS, dir: mountPoint, partitions: 1 });
    const ballast = path(mountPoint, 'ballast');
    await writeFile(ballast, new Uint8Array(2 * MIB));
    let acked = 0;
    let error: PinflowError | null = null;
    while (error === null) {
      const appended = log.append(many(10, 4000));
      error = await appended.then(
        () => null,
        (thrown: PinflowError) => thrown,
      );
      if (error === null) acked += 10;
    }
    expect([error.code, error.retryable]).toEqual(['disk_full', true]);
    expect(await log.partitions()).toEqual([{ partition: 0, start: 0, end: acked }]);
    expect((await errorOf(log.append(many(100, 4000)))).code).toBe('disk_full');

    await rm(ballast);
    const [first] = await log.append(many(10, 4000));
    expect(first?.offset).toBe(acked);
    expect((await log.read({ partition: 0, offset: 0 }, 10_000)).length).toBe(acked + 10);
    await log.close();
  });
});
