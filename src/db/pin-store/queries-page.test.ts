import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pinRow } from './contract-rows.ts';
import { openSqlitePinStore } from './sqlite.ts';

const page = await Bun.file(new URL('../../../docs/queries.md', import.meta.url)).text();
const statements = [...page.matchAll(/^```sql\n(.*?)^```/gms)].map((match) => match[1] ?? '');

test('the statements of docs/queries.md run on the embedded store', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-queries-'));
  const store = openSqlitePinStore({ dir, keyspace: 'pinkeyspace', catalog: 'cassandra' });
  try {
    await store.migrate();
    const receivedAtMicros = Date.parse('2026-11-23T12:00:00Z') * 1000;
    await store.upsert([1n, 3n, 2n].map((followerCount) => pinRow({ followerCount, receivedAtMicros })));
    expect(statements).toHaveLength(3);
    const rowsOf = async (sql = '') => (await store.query(sql.replace("DATE '", "'"), 10)).rows;
    expect(await rowsOf(statements[0])).toHaveLength(3);
    expect((await rowsOf(statements[1])).map((row) => row.at(-1))).toEqual([3, 2, 1]);
    expect(await rowsOf(statements[2])).toEqual([['mens-fashion', 3, 0]]);
  } finally {
    await store.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
