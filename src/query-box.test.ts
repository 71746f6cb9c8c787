import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from './config.ts';
import { openEmbeddedPinStore } from './db/pin-store/open.ts';
import type { Database } from './db/postgres/open.ts';
import { createQueryBox } from './query-box.ts';

/** The batch side, with its real process; src/db/postgres/ask.test.ts has the other. */
let dir: string;
const before = process.env.DATA_DIR;
const noPostgres = { sql: () => Promise.reject(new Error('not in this test')) } as unknown as Database;
const box = (timeoutMs?: number) => createQueryBox({ database: noPostgres, embedded: true, timeoutMs });

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-query-'));
  // What a child inherits is what this process has.
  process.env.DATA_DIR = dir;
  const store = openEmbeddedPinStore(readConfig({ DATA_DIR: dir }));
  await store.migrate();
  await store.close();
});
afterAll(async () => {
  if (before === undefined) delete process.env.DATA_DIR;
  else process.env.DATA_DIR = before;
  await rm(dir, { recursive: true, force: true });
});

test('columns, rows and whether there are more', async () => {
  expect(await box()('batch', 'select count(*) as pins from userposts')).toEqual({
    columns: ['pins'],
    rows: [[0]],
    truncated: false,
  });
  const many = await box()('batch', 'with recursive n(i) as (select 1 union all select i + 1 from n) select i from n');
  expect([many.rows.length, many.truncated]).toEqual([500, true]);
});

test('a statement that writes or is wrong is refused in the words of the store', async () => {
  await expect(box()('batch', 'delete from userposts')).rejects.toMatchObject({
    code: 'query',
    message: expect.stringContaining('only reading'),
  });
  await expect(box()('batch', 'select nothing from userposts')).rejects.toThrow(/nothing/);
});

test('one that never ends is ended, while this thread goes on', async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 10);
  const endless = 'with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) as m from n';
  await expect(box(1000)('batch', endless)).rejects.toMatchObject({
    code: 'query',
    message: expect.stringContaining('no answer within 1 s'),
  });
  clearInterval(timer);
  expect(turns).toBeGreaterThan(10);
}, 30_000);

test('an answer of many megabytes is cut off', async () => {
  const wide =
    'select hex(zeroblob(1000000)) as x from (select 1 union all select 2) a, (values (1),(2),(3),(4),(5)) b';
  await expect(box()('batch', wide)).rejects.toThrow(/too large/);
}, 30_000);
