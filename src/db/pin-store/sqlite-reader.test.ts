import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NULLS, pinRow } from './contract-rows.ts';
import { openSqlitePinStore } from './sqlite.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinflow-sql-'));
const store = openSqlitePinStore({ dir, keyspace: 'pinkeyspace', catalog: 'cassandra' });
const large = 9_223_372_036_854_775_807n;

beforeAll(async () => {
  await store.migrate();
  const followers = [1n, 2n, large];
  const good = followers.map((followerCount, i) => pinRow({ followerCount, category: 'art', title: `t${i}` }));
  await store.upsert([...good, pinRow({ ...NULLS, category: 'home' })]);
});
afterAll(async () => {
  await store.close();
  rmSync(dir, { recursive: true, force: true });
});

const refused = async (sql: string) => {
  const error = await store.query(sql, 10).catch((e: unknown) => e);
  expect(error).toMatchObject({ name: 'PinflowError', code: 'query', retryable: false });
  return (error as Error).message;
};

describe('SQL over the embedded pin store', () => {
  test.each([
    'select category, count(*) as n from userposts where is_error = false group by category',
    'select category, count(*) as n from pinkeyspace.userposts where not is_error group by category',
    'SELECT category, count(*) AS n FROM cassandra.pinkeyspace.userposts WHERE NOT is_error GROUP BY 1',
    'select category, count(*) as n from "cassandra"."pinkeyspace"."userposts" group by 1 having max(is_error) = 0;',
    "select pinkeyspace.userposts.category, count(*) as n from pinkeyspace.userposts where category = 'art' group by 1 -- end",
    '/* first */ with a as (select * from userposts where is_error = 0) select category, count(*) as n from a group by 1; ',
  ])('answers %s', async (sql) => {
    expect(await store.query(sql, 10)).toEqual({ columns: ['category', 'n'], rows: [['art', 3]], truncated: false });
  });

  test('leaves names alone that are text', async () => {
    const sql = `select 'pinkeyspace.userposts; drop' as a, 'it''s cassandra.pinkeyspace.x' as b`;
    expect((await store.query(sql, 1)).rows).toEqual([['pinkeyspace.userposts; drop', `it's cassandra.pinkeyspace.x`]]);
  });

  test('gives integers as numbers, and exactly where they are too large for one', async () => {
    const { rows } = await store.query('select follower_count from userposts order by 1', 10);
    expect(rows).toEqual([[null], [1], [2], [large]]);
  });

  test('stops at the limit and says so', async () => {
    const sql = 'select title from userposts where title is not null order by title';
    expect(await store.query(sql, 2)).toEqual({ columns: ['title'], rows: [['t0'], ['t1']], truncated: true });
    expect(await store.query(sql, 3)).toMatchObject({ rows: [['t0'], ['t1'], ['t2']], truncated: false });
    // More rows than memory: read only as far as the limit.
    const endless = 'with recursive n(i) as (select 1 union all select i + 1 from n) select i from n';
    expect(await store.query(endless, 2)).toEqual({ columns: ['i'], rows: [[1], [2]], truncated: true });
  });

  test.each([
    "insert into userposts (unique_id) values ('x')",
    'delete from userposts',
    'drop table userposts',
    'pragma query_only = off',
    `attach '${join(dir, 'other.sqlite')}' as other`,
    `vacuum into '${join(dir, 'other.sqlite')}'`,
    'begin',
    'with a as (select 1) delete from userposts',
    'select 1; delete from userposts',
    "select ';'; delete from userposts",
    'select 1 /* ; */; select 2',
  ])('refuses %s', async (sql) => {
    await refused(sql);
    expect(await store.count()).toBe(4);
    expect(existsSync(join(dir, 'other.sqlite'))).toBe(false);
  });

  test('says what is wrong', async () => {
    expect(await refused('select nope from userposts')).toContain('no such column: nope');
    expect(await refused('select * from nowhere')).toContain('no such table: nowhere');
    expect(await refused('select from where')).toContain('syntax error');
    expect(await refused("select 'open")).toContain('unrecognized token');
    expect(await refused('  -- nothing')).toContain('empty');
    expect(await refused('select ?')).toContain('parameters');
    expect(await refused('select title, title from userposts')).toContain('"title"');
    expect(await refused('update userposts set title = 1')).toContain('SELECT');
    expect(await refused(`select ${'1,'.repeat(60_000)}1`)).toContain('characters');
  });

  test('sees rows as soon as they are written', async () => {
    const before = await store.query('select count(*) as n from userposts', 1);
    await store.upsert([pinRow()]);
    const after = await store.query('select count(*) as n from userposts', 1);
    expect(Number(after.rows[0]?.[0]) - Number(before.rows[0]?.[0])).toBe(1);
  });
});
