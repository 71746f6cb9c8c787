import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PinRow, PinStore } from '../db/pin-store/pin-store.ts';
import { openSqlitePinStore } from '../db/pin-store/sqlite.ts';
import { PinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { pinLine, tempFolder, textOf } from './clean-fixture.ts';
import { cleanLines } from './clean-lines.ts';
import { createRetrying } from './clean-retry.ts';
import { createStoreWriter, UPSERT_ROWS } from './clean-upsert.ts';

const never = new AbortController().signal;

let dir: string;
let stores = 0;
let real: PinStore;

beforeAll(async () => {
  dir = await tempFolder();
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  stores++;
  real = openSqlitePinStore({ dir: join(dir, `${stores}`), keyspace: 'pinkeyspace', catalog: 'cassandra' });
  await real.migrate();
});

const rowsOf = async (from: number, count: number, titles: ReadonlyMap<number, string> = new Map()) => {
  const lines = Array.from({ length: count }, (_, i) => ({
    offset: from + i,
    line: Buffer.from(pinLine(from + i, { title: titles.get(from + i) ?? 'fine' })),
  }));
  return (await cleanLines(textOf(0, lines))).rows;
};

const writerOver = (store: PinStore) =>
  createStoreWriter({
    store,
    retrying: createRetrying({ metrics: createMetrics(), logger: createLogger('silent', 'test') }),
    reached: () => {},
  });

/** The real store, but a call that `refuses` names fails before it reaches it. */
const failing = (refuses: (rows: readonly PinRow[]) => PinflowError | null) => {
  const calls: number[] = [];
  const store: PinStore = {
    ...real,
    upsert: async (rows) => {
      calls.push(rows.length);
      const error = refuses(rows);
      if (error !== null) throw error;
      await real.upsert(rows);
    },
  };
  return { store, calls };
};

const refusal = () => new PinflowError('invalid_pin', 'the row is too large');
const refusesPoison = (rows: readonly PinRow[]) => (rows.some((row) => row.title === 'poison') ? refusal() : null);
const poisonAt = (...offsets: readonly number[]) => new Map(offsets.map((offset) => [offset, 'poison']));

describe('chunks', () => {
  test('all rows land, in calls of bounded size', async () => {
    const { store, calls } = failing(() => null);
    const rows = await rowsOf(0, UPSERT_ROWS + 5);
    expect(await writerOver(store).upsert(rows, never)).toEqual([]);
    expect(calls).toEqual([UPSERT_ROWS, 5]);
    expect(await real.count()).toBe(rows.length);
  });

  test('stops between chunks when told to', async () => {
    const stop = new AbortController();
    const { store, calls } = failing(() => {
      stop.abort();
      return null;
    });
    expect(await writerOver(store).upsert(await rowsOf(0, UPSERT_ROWS * 2), stop.signal)).toBeNull();
    expect(calls).toEqual([UPSERT_ROWS]);
  });
});

describe('a poison row', () => {
  test.each([
    ['alone in the middle', [500]],
    ['first and last of a chunk', [0, UPSERT_ROWS - 1]],
    ['in two chunks', [10, UPSERT_ROWS + 10]],
  ])('%s is found, and its neighbours land', async (_, offsets) => {
    const rows = await rowsOf(0, UPSERT_ROWS + 100, poisonAt(...offsets));
    const refused = await writerOver(failing(refusesPoison).store).upsert(rows, never);
    expect(refused?.map(({ row }) => row.position.offset)).toEqual(offsets);
    expect(refused?.[0]?.reason).toBe('the row is too large');
    expect(await real.count()).toBe(rows.length - offsets.length);
  });

  test('alone in its object is condemned once the store has taken another row', async () => {
    const writer = writerOver(failing(refusesPoison).store);
    const poison = await rowsOf(0, 1, poisonAt(0));
    await expect(writer.upsert(poison, never)).rejects.toMatchObject({
      code: 'pin_store_unavailable',
      retryable: false,
    });
    await writer.upsert(await rowsOf(1, 1), never);
    expect(await writer.upsert(poison, never)).toHaveLength(1);
  });
});

describe('a store that is at fault', () => {
  test('refusing everything, it condemns no row', async () => {
    let broken = false;
    const { store, calls } = failing(() => (broken ? refusal() : null));
    const writer = writerOver(store);
    await writer.upsert(await rowsOf(0, 10), never);
    broken = true;
    calls.length = 0;
    await expect(writer.upsert(await rowsOf(10, 1000), never)).rejects.toMatchObject({ code: 'pin_store_unavailable' });
    // One try, and one of a row that it took before.
    expect(calls).toEqual([1000, 1]);
  });

  test('failing its check, it is not asked row by row', async () => {
    const { store, calls } = failing(refusal);
    const away = { ...store, check: () => Promise.reject(new Error('no such table')) };
    await expect(writerOver(away).upsert(await rowsOf(0, 1000), never)).rejects.toThrow('refuses every row');
    expect(calls).toEqual([1000]);
  });

  test.each([
    ['a store that is not set up', 'config'],
    ['a full disk', 'disk_full'],
  ] as const)('%s ends the upsert at once', async (_, code) => {
    const { store, calls } = failing(() => new PinflowError(code, 'no'));
    await expect(writerOver(store).upsert(await rowsOf(0, 10), never)).rejects.toMatchObject({ code });
    expect(calls).toHaveLength(1);
  });

  test('away for a moment, it is asked again', async () => {
    let failures = 2;
    const { store } = failing(() =>
      failures-- > 0 ? new PinflowError('pin_store_unavailable', 'busy', { retryable: true }) : null,
    );
    expect(await writerOver(store).upsert(await rowsOf(0, 10), never)).toEqual([]);
    expect(await real.count()).toBe(10);
  });

  test('away for good, the error is handed on and nothing is condemned', async () => {
    const { store } = failing(() => new PinflowError('pin_store_unavailable', 'away', { retryable: true }));
    await expect(writerOver(store).upsert(await rowsOf(0, 10), never)).rejects.toMatchObject({ message: 'away' });
  });
});

test('the schema is migrated once, and again after a failure', async () => {
  let migrations = 0;
  const writer = writerOver({
    ...real,
    migrate: async () => {
      migrations++;
      if (migrations === 1) throw new PinflowError('pin_store_unavailable', 'away', { retryable: true });
      await real.migrate();
    },
  });
  await expect(writer.prepare()).rejects.toMatchObject({ message: 'away' });
  await Promise.all([writer.prepare(), writer.prepare()]);
  await writer.prepare();
  expect(migrations).toBe(2);
});
