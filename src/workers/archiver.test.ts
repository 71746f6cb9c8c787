import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { archivePartitions, listManifest } from '../blob/archive.ts';
import { archiveLine, readReject } from '../blob/archive-line.ts';
import { readArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import { openFsBlobStore } from '../blob/fs.ts';
import { systemClock } from '../clock.ts';
import { PinflowError } from '../errors.ts';
import type { PinLog } from '../log/log.ts';
import { openSqliteLog } from '../log/sqlite.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import type { ArchivePoint } from './archive-chain.ts';
import { type ArchiverDeps, createArchiver } from './archiver.ts';
import type { WorkerStatus } from './protocol.ts';

setDefaultTimeout(60_000);
const DEADLINE_MS = 30_000;
const PARTITIONS = 3;
const logger = createLogger('silent', 'test');
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const until = async (what: string, condition: () => boolean | Promise<boolean>) => {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`did not happen: ${what}`);
    await Bun.sleep(10);
  }
};

const openLogIn = async (dir: string): Promise<PinLog> => {
  const options = { topic: 'pins', partitions: PARTITIONS, retentionHours: 1, retentionBytes: 2 ** 30 };
  const log = await openSqliteLog({
    ...options,
    dir,
    maxPendingBytes: 2 ** 26,
    groups: [],
    logger,
    sessionTimeoutMs: 1000,
  });
  cleanups.push(() => log.close());
  return log;
};

const setUp = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pinflow-archiver-'));
  cleanups.push(() => rm(dir, { recursive: true, force: true }));
  return { dir, log: await openLogIn(join(dir, 'log')), store: openFsBlobStore({ dir: join(dir, 'archive') }) };
};

let serial = 0;
const append = (log: PinLog, count: number) =>
  log.append(Array.from({ length: count }, () => ({ key: `k${serial}`, value: Buffer.from(`{"n":${serial++}}`) })));

type Started = Awaited<ReturnType<typeof start>>;
const start = async (log: PinLog, store: BlobStore, options: Partial<ArchiverDeps> = {}) => {
  const statuses: WorkerStatus[] = [];
  const metrics = createMetrics();
  const worker = createArchiver({
    log,
    store,
    metrics,
    logger,
    clock: systemClock,
    status: (status) => statuses.push(status),
    limits: { maxBytes: 1 << 20, maxPins: 20, maxSeconds: 0.2 },
    group: 'archive',
    ...options,
  });
  const outcome = worker.run().then(
    () => null,
    (error: unknown) => error,
  );
  cleanups.push(worker.drain);
  return { worker, statuses, metrics, outcome };
};

const archivedPins = async (store: BlobStore): Promise<number> => {
  let pins = 0;
  for (const partition of await archivePartitions(store)) {
    for await (const entry of listManifest(store, partition)) pins += entry.pins;
  }
  return pins;
};

const inLog = async (log: PinLog) =>
  (await log.partitions()).reduce((sum, { start: first, end }) => sum + end - first, 0);
const untilAllArchived = (log: PinLog, store: BlobStore) =>
  until('all of the log is archived', async () => (await archivedPins(store)) >= (await inLog(log)));

/**
 * The promise of the archive: each offset of the log stands in exactly one object, as its line, the objects of a partition
 * form one chain, and there is no object beside it.
 */
const expectExactlyOnce = async (log: PinLog, store: BlobStore) => {
  const inManifest: string[] = [];
  for (const { partition, end } of await log.partitions()) {
    let next = 0;
    for await (const entry of listManifest(store, partition)) {
      expect(entry.firstOffset).toBe(next);
      inManifest.push(entry.key);
      const records = await log.read({ partition, offset: next }, entry.pins);
      for (const [i, { offset, line }] of (await readArchiveObject(store, entry)).entries()) {
        const record = records[i];
        expect(record?.offset).toBe(offset);
        expect(Buffer.compare(line, archiveLine(record?.value ?? Buffer.of(), record?.timestamp ?? 0))).toBe(0);
      }
      next = entry.lastOffset + 1;
    }
    expect(next).toBe(end);
  }
  const objects = await Array.fromAsync(store.list({ prefix: 'pins/' }));
  expect(objects.map(({ key }) => key).sort()).toEqual(inManifest.sort());
};

const metricOf = async (metrics: Started['metrics'], name: string) =>
  ((await metrics.registry.getSingleMetric(name)?.get())?.values ?? []).reduce((sum, { value }) => sum + value, 0);

describe('the archiver', () => {
  test('archives each offset once, without new pins to push it, and counts and commits what it did', async () => {
    const { log, store } = await setUp();
    await append(log, 250);
    const { worker, statuses, metrics } = await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
    await append(log, 7);
    await untilAllArchived(log, store);
    await worker.drain();
    await expectExactlyOnce(log, store);
    const ends = new Map((await log.partitions()).map(({ partition, end }) => [partition, end]));
    expect(await log.committed('archive')).toEqual(ends);
    expect(statuses).toContainEqual({ state: 'ready' });
    expect(await metricOf(metrics, 'pinflow_archive_pins_total')).toBe(257);
    expect(await metricOf(metrics, 'pinflow_archive_objects_total')).toBeGreaterThan(250 / 20);
  });

  test('a drain writes what is buffered, long before its time', async () => {
    const { log, store } = await setUp();
    await append(log, 100);
    const { worker, metrics, outcome } = await start(log, store, {
      limits: { maxBytes: 1 << 30, maxPins: 1000, maxSeconds: 3600 },
    });
    // The gauge shows what is not archived of what was delivered; all three partitions must have come.
    const lags = async () => (await metrics.consumerLag.get()).values.filter(({ value }) => value > 0).length;
    await until('the records are delivered', async () => (await lags()) === PARTITIONS);
    await append(log, 1);
    await worker.drain();
    expect(await outcome).toBeNull();
    const pins = await archivedPins(store);
    expect(pins).toBeGreaterThan(0);
    await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
  });

  test('draining twice, and before it ran', async () => {
    const { log, store } = await setUp();
    const { worker } = await start(log, store);
    await Promise.all([worker.drain(), worker.drain()]);
    await worker.drain();
    const never = createArchiver({
      ...{ log, store, logger, clock: systemClock, status: () => {}, group: 'g' },
      metrics: createMetrics(),
      limits: { maxBytes: 1, maxPins: 1, maxSeconds: 1 },
    });
    await never.drain();
    await never.run();
  });

  test('what cannot be a line is wrapped, and has its offset like any other', async () => {
    const { log, store } = await setUp();
    const values = ['{"n":1}', 'not json', '', '{"n":2}', '[3]', '{\n"n":4\n}'];
    await log.append(values.map((value) => ({ key: 'same', value: Buffer.from(value) })));
    await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
    const [partition = 0] = await archivePartitions(store);
    const lines = [];
    for await (const entry of listManifest(store, partition)) lines.push(...(await readArchiveObject(store, entry)));
    const rejects = lines.map(({ line }) =>
      readReject(line) === null ? null : Buffer.from(readReject(line)?.value ?? []).toString(),
    );
    expect(rejects).toEqual([null, 'not json', '', null, '[3]', null]);
  });
});

describe('a writer that dies', () => {
  const points: readonly ArchivePoint[] = ['after archive put, before manifest', 'after manifest, before commit'];

  test.each(points)('%s: the next one goes on from there', async (point) => {
    for (const dieAt of [1, 2, 5]) {
      const { log, store } = await setUp();
      await append(log, 200);
      let seen = 0;
      const { outcome } = await start(log, store, {
        reached: (now) => {
          if (now === point && ++seen >= dieAt) throw new Error('killed');
        },
      });
      expect(String(await outcome)).toBe('Error: killed');
      // Other limits: the next one would cut its objects elsewhere.
      await append(log, 50);
      await start(log, store, { limits: { maxBytes: 1 << 20, maxPins: 7, maxSeconds: 0.1 } });
      await untilAllArchived(log, store);
      await expectExactlyOnce(log, store);
    }
  });

  test('again and again, at any point, with any limits', async () => {
    const life = fc.record({
      point: fc.constantFrom(...points),
      dieAt: fc.integer({ min: 1, max: 4 }),
      maxPins: fc.integer({ min: 1, max: 40 }),
      pins: fc.integer({ min: 0, max: 120 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 4 }), async (lives) => {
        const { log, store } = await setUp();
        for (const { point, dieAt, maxPins, pins } of lives) {
          await append(log, pins + 60);
          let seen = 0;
          const { outcome, worker } = await start(log, store, {
            limits: { maxBytes: 1 << 20, maxPins, maxSeconds: 0.05 },
            reached: (now) => {
              if (now === point && ++seen >= dieAt) throw new Error('killed');
            },
          });
          await Promise.race([outcome, untilAllArchived(log, store)]);
          await worker.drain();
        }
        await start(log, store);
        await untilAllArchived(log, store);
        await expectExactlyOnce(log, store);
      }),
      { numRuns: 8 },
    );
  });
});

/** Often enough to meet each call both ways, seldom enough that the waits between tries stay short. */
const FAULT = 0.07;

/** Every call may fail before it is done, or be done and then have its answer lost. Seeded. */
const unreliable = (store: BlobStore, seed: number): BlobStore => {
  let state = seed;
  const chance = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) / 65_536;
  };
  const lost = (how: string) => new PinflowError('blob_unavailable', how, { retryable: true });
  const flaky =
    <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      if (chance() < FAULT) throw lost('the call was lost');
      const answer = await call(...args);
      if (chance() < FAULT) throw lost('the answer was lost');
      return answer;
    };
  return { ...store, put: flaky(store.put), get: flaky(store.get), head: flaky(store.head), check: flaky(store.check) };
};

describe('a store that fails', () => {
  test.each([1, 2, 3])(
    'calls and answers lost (seed %d): waits, retries, and each offset is there once',
    async (seed) => {
      const { log, store } = await setUp();
      await append(log, 150);
      const { statuses, metrics, worker } = await start(log, unreliable(store, seed));
      await untilAllArchived(log, store);
      await append(log, 30);
      await untilAllArchived(log, store);
      await worker.drain();
      await expectExactlyOnce(log, store);
      expect(statuses.some(({ state }) => state === 'waiting')).toBe(true);
      expect(await metricOf(metrics, 'pinflow_retries_total')).toBeGreaterThan(0);
    },
  );

  test('a drain does not wait for a store that is away; what is buffered stays in the log', async () => {
    const { log, store } = await setUp();
    await append(log, 50);
    const down = new PinflowError('blob_unavailable', 'the store is away', { retryable: true });
    const { worker, statuses, outcome } = await start(log, { ...store, put: () => Promise.reject(down) });
    await until('it waits', () => statuses.at(-1)?.state === 'waiting');
    expect(statuses.at(-1)).toEqual({ state: 'waiting', reason: 'the store is away' });
    await worker.drain();
    expect(await outcome).toBeNull();
    expect((await log.committed('archive')).size).toBe(0);
    await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
  });

  test('what only a person can put right is waited for as well', async () => {
    const { log, store } = await setUp();
    await append(log, 50);
    let isRight = false;
    const { statuses } = await start(log, {
      ...store,
      check: () =>
        isRight ? store.check() : Promise.reject(new PinflowError('blob_unavailable', 'there is no such bucket')),
    });
    await until('it waits', () => statuses.some(({ state }) => state === 'waiting'));
    isRight = true;
    await untilAllArchived(log, store);
    expect(statuses.at(-1)).toEqual({ state: 'ready' });
    await expectExactlyOnce(log, store);
  });

  test('a mistake of the program is not waited for: the worker ends and is replaced', async () => {
    const { log, store } = await setUp();
    await append(log, 5);
    const { outcome } = await start(log, { ...store, put: () => Promise.reject(new TypeError('not a function')) });
    expect(String(await outcome)).toBe('TypeError: not a function');
  });
});

describe('two writers at once', () => {
  test('members of one group share the partitions, also while they come and go', async () => {
    const { dir, log, store } = await setUp();
    const first = await start(log, store);
    await append(log, 100);
    const second = await start(await openLogIn(join(dir, 'log')), store);
    await append(log, 100);
    await untilAllArchived(log, store);
    await append(log, 100);
    await first.worker.drain();
    await append(log, 100);
    await untilAllArchived(log, store);
    await second.worker.drain();
    await expectExactlyOnce(log, store);
  });

  test('both owning all partitions, with other limits: the chain is one', async () => {
    const { log, store } = await setUp();
    const limits = (maxPins: number, maxSeconds: number) => ({ limits: { maxBytes: 1 << 20, maxPins, maxSeconds } });
    const both = [
      await start(log, store, { group: 'one', ...limits(7, 0.05) }),
      await start(log, store, { group: 'two', ...limits(31, 0.08) }),
    ];
    for (let i = 0; i < 20; i++) {
      await append(log, 40);
      await Bun.sleep(10);
    }
    await untilAllArchived(log, store);
    const ends = new Map((await log.partitions()).map(({ partition, end }) => [partition, end]));
    for (const group of ['one', 'two']) {
      await until(`${group} has come to the end`, async () => Bun.deepEquals(await log.committed(group), ends));
    }
    for (const { worker } of both) await worker.drain();
    await expectExactlyOnce(log, store);
    const counted = await Promise.all(both.map(({ metrics }) => metricOf(metrics, 'pinflow_archive_pins_total')));
    expect(counted.reduce((a, b) => a + b)).toBe(800);
  });

  test('a zombie that wakes in the middle of a put, after another has taken its partitions', async () => {
    const { log, store } = await setUp();
    await append(log, 90);
    const wake = Promise.withResolvers<void>();
    let asleep = 0;
    const sleepy: BlobStore = {
      ...store,
      put: async (key, ...rest) => {
        if (key.startsWith('pins/')) asleep++;
        await wake.promise;
        return store.put(key, ...rest);
      },
    };
    // It sees no revocation and its commits are refused: so it is for a process that was stopped and comes back.
    const cutOff: PinLog = {
      ...log,
      consume: (options) => ({
        ...log.consume({ ...options, group: 'cut off' }),
        commit: () => Promise.reject(new PinflowError('fenced', 'not yours any more')),
      }),
    };
    const zombie = await start(cutOff, sleepy);
    await until('it is in the middle of its puts', () => asleep === PARTITIONS);
    await start(log, store, { limits: { maxBytes: 1 << 20, maxPins: 13, maxSeconds: 0.1 } });
    await untilAllArchived(log, store);
    await append(log, 60);
    wake.resolve();
    await untilAllArchived(log, store);
    await zombie.worker.drain();
    await expectExactlyOnce(log, store);
    expect((await log.committed('cut off')).size).toBe(0);
  });

  test('a zombie that wins: the owner adopts what it put and goes on after it', async () => {
    const { log, store } = await setUp();
    await append(log, 90);
    const wake = Promise.withResolvers<void>();
    const zombiePut = Promise.withResolvers<void>();
    let waiting = 0;
    const owner = await start(log, {
      ...store,
      put: async (key, ...rest) => {
        waiting++;
        await wake.promise;
        return store.put(key, ...rest);
      },
    });
    await until('the owner is before its puts', () => waiting === PARTITIONS);
    let puts = 0;
    // Dies right after its object, so that nothing but the object itself tells of it.
    const zombie = await start(log, store, {
      group: 'zombie',
      limits: { maxBytes: 1 << 20, maxPins: 3, maxSeconds: 0.1 },
      reached: () => {
        puts++;
        zombiePut.resolve();
        throw new Error('killed');
      },
    });
    await zombiePut.promise;
    await zombie.outcome;
    wake.resolve();
    await untilAllArchived(log, store);
    await owner.worker.drain();
    await expectExactlyOnce(log, store);
    const adopted = (await owner.metrics.archiveObjects.get()).values.find(
      ({ labels }) => labels.outcome === 'adopted',
    );
    expect(adopted?.value ?? 0).toBeGreaterThanOrEqual(1);
    expect(puts).toBeGreaterThanOrEqual(1);
  });
});

describe('where it goes on', () => {
  test('commits lost: after the end of the chain', async () => {
    const { log, store } = await setUp();
    await append(log, 130);
    const first = await start(log, store);
    await untilAllArchived(log, store);
    await first.worker.drain();
    const before = await Array.fromAsync(store.list({ prefix: 'pins/' }));
    await append(log, 20);
    const { metrics } = await start(log, store, { group: 'without commits' });
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
    const after = await Array.fromAsync(store.list({ prefix: 'pins/' }));
    expect(after).toEqual(expect.arrayContaining(before));
    expect(await metricOf(metrics, 'pinflow_archive_pins_total')).toBe(20);
  });

  test('commits ahead of an archive that was emptied: from the oldest record', async () => {
    const { dir, log, store } = await setUp();
    await append(log, 60);
    const first = await start(log, store);
    await untilAllArchived(log, store);
    await first.worker.drain();
    await rename(join(dir, 'archive'), join(dir, 'away'));
    await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
  });

  test('the manifest’s newest entry lost: its object is adopted again', async () => {
    const { log, store } = await setUp();
    await append(log, 60);
    const first = await start(log, store);
    await untilAllArchived(log, store);
    await first.worker.drain();
    for (const partition of await archivePartitions(store)) {
      const keys = (await Array.fromAsync(store.list({ prefix: `manifest/${partition}/` }))).map(({ key }) => key);
      await store.delete(keys.at(-1) ?? '');
    }
    await start(log, store);
    await untilAllArchived(log, store);
    await expectExactlyOnce(log, store);
  });

  test('a log made anew: it waits and says what to do, touches nothing, and goes on once that is done', async () => {
    const { dir, log, store } = await setUp();
    await append(log, 60);
    const first = await start(log, store);
    await untilAllArchived(log, store);
    await first.worker.drain();
    const before = await Array.fromAsync(store.list({ prefix: '' }));
    const anew = await openLogIn(join(dir, 'anew'));
    await append(anew, 90);
    const { statuses } = await start(anew, store);
    await until('it waits', () => statuses.at(-1)?.state === 'waiting');
    const status = statuses.at(-1);
    expect(status?.state === 'waiting' && status.reason).toContain('Set a new S3_PREFIX');
    expect(await Array.fromAsync(store.list({ prefix: '' }))).toEqual(before);
    await rename(join(dir, 'archive'), join(dir, 'away'));
    await untilAllArchived(anew, store);
    await expectExactlyOnce(anew, store);
    expect(statuses.at(-1)).toEqual({ state: 'ready' });
  });

  test('a log that is shorter than its archive is another one', async () => {
    const { dir, log, store } = await setUp();
    await append(log, 60);
    const first = await start(log, store);
    await untilAllArchived(log, store);
    await first.worker.drain();
    const { statuses } = await start(await openLogIn(join(dir, 'anew')), store);
    await until('it waits', () => statuses.at(-1)?.state === 'waiting');
    const status = statuses.at(-1);
    expect(status?.state === 'waiting' && status.reason).toContain('the log ends before');
  });
});
