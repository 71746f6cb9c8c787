import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listManifest, MAX_RUNS } from '../blob/archive.ts';
import { archiveLine } from '../blob/archive-line.ts';
import { encodeArchiveObject, readArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import { openFsBlobStore } from '../blob/fs.ts';
import { isPinflowError, PinflowError } from '../errors.ts';
import type { LogRecord } from '../log/log.ts';
import { archiveConflict, extendChain } from './archive-chain.ts';
import { createDraft } from './archive-draft.ts';
import { type ArchiveLimits, createArchivePartition } from './archive-partition.ts';

const dir = await mkdtemp(join(tmpdir(), 'pinflow-partition-'));
afterAll(() => rm(dir, { recursive: true, force: true }));

const LIMITS: ArchiveLimits = { maxBytes: 1 << 20, maxPins: 1000, maxSeconds: 10 };
const record = (offset: number): LogRecord => ({
  partition: 0,
  offset,
  key: null,
  value: Buffer.from(`{"n":${offset}}`),
  timestamp: 1_700_000_000_000,
  headers: {},
});
const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const batch = (offsets: readonly number[], highWatermark = 10_000) => ({
  partition: 0,
  records: offsets.map(record),
  highWatermark,
});

const setUp = (
  limits: Partial<ArchiveLimits> = {},
  store: BlobStore = openFsBlobStore({ dir: join(dir, crypto.randomUUID()) }),
) => {
  const state = { now: 0, owned: true, commits: [] as number[] };
  const partition = createArchivePartition({
    partition: 0,
    start: 0,
    end: 0,
    limits: { ...LIMITS, ...limits },
    clock: { now: () => state.now },
    conflict: (what) => archiveConflict(store, 'pins', what),
    extend: (object) => extendChain({ store, topic: 'pins', reached: () => {} }, object),
    commit: async (next) => {
      if (state.owned) state.commits.push(next);
      return state.owned;
    },
  });
  const chain = async () => {
    const ranges: string[] = [];
    for await (const entry of listManifest(store, 0)) {
      const lines = await readArchiveObject(store, entry);
      for (const { offset, line } of lines) expect(JSON.parse(Buffer.from(line).toString()).n).toBe(offset);
      ranges.push(`${entry.firstOffset}-${entry.lastOffset}`);
    }
    return ranges;
  };
  return { store, state, partition, chain };
};

/** What another writer put before us; without the manifest entry it died in between. */
const putByAnother = async (store: BlobStore, offsets: readonly number[], manifest: boolean, say = record) => {
  const draft = createDraft(0, LIMITS);
  for (const offset of offsets) draft.append(offset, archiveLine(say(offset).value, say(offset).timestamp));
  const object = await encodeArchiveObject(draft.text());
  if (manifest) await extendChain({ store, topic: 'pins', reached: () => {} }, object);
  else await store.put(object.entry.key, object.bytes, { ifAbsent: true, metadata: object.metadata });
};

describe('when an object is closed', () => {
  test('at the count of pins, with what comes after in the next', async () => {
    const { partition, chain, state } = setUp({ maxPins: 10 });
    await partition.take(batch(range(0, 24)));
    await partition.flush();
    expect(await chain()).toEqual(['0-9', '10-19', '20-24']);
    expect(state.commits).toEqual([10, 20, 25]);
  });

  test('at the bytes before compression; the line that reaches them is still in it', async () => {
    const line = archiveLine(record(0).value, 1_700_000_000_000).length + 1;
    const { partition, chain } = setUp({ maxBytes: 3 * line - 1 });
    await partition.take(batch(range(0, 6)));
    await partition.flush();
    expect(await chain()).toEqual(['0-2', '3-5', '6-6']);
  });

  test('at the age of its oldest line, without any new pin, and not before', async () => {
    const { partition, chain, state } = setUp();
    state.now = 5000;
    await partition.take(batch([0, 1]));
    state.now = 14_999;
    await partition.take(batch([2]));
    partition.writeIfDue();
    expect(partition.bytes()).toBeGreaterThan(0);
    expect(await chain()).toEqual([]);
    state.now = 15_000;
    partition.writeIfDue();
    await partition.flush();
    expect(await chain()).toEqual(['0-2']);
    partition.writeIfDue();
    await partition.flush();
    expect(await chain()).toEqual(['0-2']);
  });

  test('after a wall clock that was set back, counted from there', async () => {
    const { partition, chain, state } = setUp();
    state.now = 1_000_000;
    await partition.take(batch([0]));
    state.now = 500;
    partition.writeIfDue();
    state.now = 10_500;
    partition.writeIfDue();
    await partition.flush();
    expect(await chain()).toEqual(['0-0']);
  });

  test('before it has more holes than its metadata can tell of', async () => {
    const { partition, chain } = setUp();
    const offsets = range(0, 3 * MAX_RUNS).map((i) => i * 2);
    await partition.take(batch(offsets));
    await partition.flush();
    const ends = [MAX_RUNS, 2 * MAX_RUNS, 3 * MAX_RUNS].map((i) => i * 2 - 2);
    expect(await chain()).toEqual([
      `0-${ends[0]}`,
      `${2 * MAX_RUNS}-${ends[1]}`,
      `${4 * MAX_RUNS}-${ends[2]}`,
      '384-384',
    ]);
  });
});

describe('what another writer left', () => {
  test.each([
    ['without', false],
    ['with', true],
  ])('an object that ends earlier, %s its manifest entry: adopted, the rest follows', async (_, manifest) => {
    const { store, partition, chain, state } = setUp();
    await putByAnother(store, range(0, 4), manifest);
    await partition.take(batch(range(0, 9)));
    await partition.flush();
    expect(await chain()).toEqual(['0-4', '5-9']);
    expect(state.commits).toEqual([5, 10]);
  });

  test('an object that ends later: adopted, what it holds is not written again', async () => {
    const { store, partition, chain, state } = setUp({ maxPins: 10 });
    await putByAnother(store, range(0, 14), false);
    await partition.take(batch(range(0, 12)));
    await partition.take(batch(range(13, 19)));
    await partition.flush();
    expect(await chain()).toEqual(['0-14', '15-19']);
    expect(state.commits).toEqual([15, 20]);
  });

  test('objects that go on beyond all that is buffered: records in between are left out as they come', async () => {
    const { store, partition, chain } = setUp({ maxPins: 5 });
    await putByAnother(store, range(0, 19), true);
    await partition.take(batch(range(0, 7)));
    await partition.take(batch(range(8, 21)));
    await partition.flush();
    expect(await chain()).toEqual(['0-19', '20-21']);
  });

  test('an object with another first pin: a conflict that tells what to do, and nothing is written', async () => {
    for (const manifest of [true, false]) {
      const { store, partition, chain, state } = setUp();
      await putByAnother(store, range(0, 4), manifest, (offset) => ({
        ...record(offset),
        value: Buffer.from('{"n":"other"}'),
      }));
      await partition.take(batch(range(0, 9)));
      await partition.flush();
      const error = await partition.failed.catch((e) => e);
      expect(isPinflowError(error, 'archive_conflict') && !error.retryable).toBe(true);
      expect(error.message).toContain('S3_PREFIX');
      expect(state.commits).toEqual([]);
      expect(partition.bytes()).toBe(0);
      const objects = await Array.fromAsync(store.list({ prefix: 'pins/' }));
      expect(objects).toHaveLength(1);
      if (!manifest) expect(await chain()).toEqual([]);
    }
  });

  test('an object of another log under another hour: no second object of the offset is made', async () => {
    const { store, partition } = setUp();
    await putByAnother(store, [0], true, (offset) => ({ ...record(offset), timestamp: 1_600_000_000_000 }));
    await partition.take(batch([0]));
    await partition.flush();
    expect(isPinflowError(await partition.failed.catch((e) => e), 'archive_conflict')).toBe(true);
    expect(await Array.fromAsync(store.list({ prefix: 'pins/' }))).toHaveLength(1);
  });
});

describe('a partition that is no longer ours', () => {
  test('a commit that is refused drops what is buffered', async () => {
    const { partition, chain, state } = setUp({ maxPins: 5 });
    state.owned = false;
    await partition.take(batch(range(0, 12)));
    await partition.flush();
    expect(partition.bytes()).toBe(0);
    await partition.take(batch(range(13, 30)));
    await partition.flush();
    expect(await chain()).toEqual(['0-4']);
    expect(state.commits).toEqual([]);
  });

  test('abandoned: what is buffered is dropped, not written', async () => {
    const { partition, chain } = setUp();
    await partition.take(batch(range(0, 3)));
    partition.abandon();
    await partition.flush();
    expect(await chain()).toEqual([]);
  });

  test('a log that became shorter is another log', async () => {
    const { partition } = setUp();
    await partition.take(batch(range(0, 9), 10));
    const error = await partition.take(batch([0], 1)).catch((e) => e);
    expect(isPinflowError(error, 'archive_conflict')).toBe(true);
  });

  test('a failure that cannot be waited out is reported once, and nothing more is written', async () => {
    const inner = openFsBlobStore({ dir: join(dir, crypto.randomUUID()) });
    const denied = new PinflowError('blob_unavailable', 'denied');
    const { partition, state } = setUp({ maxPins: 2 }, { ...inner, put: () => Promise.reject(denied) });
    await partition.take(batch(range(0, 9)));
    expect(await partition.failed.catch((e) => e)).toBe(denied);
    expect(partition.bytes()).toBe(0);
    expect(state.commits).toEqual([]);
  });
});
