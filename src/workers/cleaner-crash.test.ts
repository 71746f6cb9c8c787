import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { recentRuns } from '../db/postgres/ledger.ts';
import { type CrashOrder, LETTERS } from './clean-crash-child.ts';
import {
  openWorkshop,
  pinLine,
  pinLines,
  putObject,
  SET_UP_MS,
  startDatabase,
  type TestDatabase,
  tableOf,
} from './clean-fixture.ts';
import type { CleanPoint } from './clean-run.ts';

const CHILD = Bun.fileURLToPath(new URL('./clean-crash-child.ts', import.meta.url));
/** What a process ended by SIGKILL answers. */
const KILLED = 137;

setDefaultTimeout(SET_UP_MS);

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await startDatabase();
});
afterAll(() => postgres.close());

const runUntilKilled = async (order: CrashOrder) => {
  const child = Bun.spawn([process.execPath, CHILD, JSON.stringify(order)], { stdout: 'ignore', stderr: 'inherit' });
  return await child.exited;
};

const moments: readonly (readonly [CleanPoint, number])[] = [
  ['run started', 1],
  ['objects discovered', 1],
  ['chunk upserted', 1],
  ['chunk upserted', 2],
  ['object upserted', 2],
  ['object marked', 1],
  ['object marked', 2],
];

test.each(moments)('killed at "%s", time %d: the next run completes the same table', async (point, times) => {
  await postgres.reset();
  const shop = await openWorkshop(postgres.database);
  try {
    await shop.pinStore.migrate();
    await putObject(shop.store, 0, 0, [...pinLines(0, 2500), 'no pin']);
    await putObject(shop.store, 0, 2501, [pinLine(7, { title: 'newer', receivedAtMicros: 2e15 }), 'no pin']);
    await putObject(shop.store, 1, 0, pinLines(3000, 10));
    expect(await runUntilKilled({ url: postgres.url, dir: shop.dir, point, times })).toBe(KILLED);

    const cleaner = shop.cleaner();
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'skipped' });
    await postgres.database.sql`update leases set expires_at = clock_timestamp()`;
    expect(await cleaner.runNow('cron')).toMatchObject({ status: 'done' });
    expect((await recentRuns(postgres.database, 10)).map((run) => run.status)).toEqual(['done', 'abandoned']);
    expect(await cleaner.runNow('manual')).toMatchObject({ status: 'done', objects: 0 });

    const table = await tableOf(shop.pinStore);
    expect(table.size).toBe(2510);
    expect([...table.values()].filter((row) => row.title === 'newer')).toHaveLength(1);
    const sentBefore = await readFile(join(shop.dir, LETTERS), 'utf8').catch(() => '');
    const letters = new Set([...sentBefore.split('\n').filter(Boolean), ...shop.letters.keys()]);
    expect(letters).toEqual(new Set(['clean:0/2500', 'clean:0/2502']));
  } finally {
    await shop.close();
  }
});
