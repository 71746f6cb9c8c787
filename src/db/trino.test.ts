import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { cassandraOptions, dropKeyspaces } from '../../test/fixtures/cassandra.ts';
import { freshKeyspace } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { createLogger } from '../logger.ts';
import { sleep } from '../retry.ts';
import { openCassandraPinStore } from './pin-store/cassandra.ts';
import { NULLS, pinRow } from './pin-store/contract-rows.ts';
import { runQuery } from './query.ts';
import { queryTrino } from './trino.ts';

const server = await testServer('trino');
const cassandra = await testServer('cassandra');
const logger = createLogger('silent', 'test');
const TIMEOUT_MS = 180_000;
const POLL_MS = 250;

describe.skipIf('skip' in server || 'skip' in cassandra)('a real Trino over a real Cassandra', () => {
  const keyspace = freshKeyspace();
  const config = readConfig({ ...server.settings, CQL_KEYSPACE: keyspace });
  const rows = [
    ...Array.from({ length: 20 }, (_, i) =>
      pinRow({ category: 'art', followerCount: BigInt(i), tagList: ['a', `t${i}`] }),
    ),
    ...Array.from({ length: 10 }, () => pinRow({ ...NULLS, category: 'home' })),
  ];
  const ask = (sql: string, limit = 100) => runQuery({ config, logger, sql, limit });

  beforeAll(async () => {
    const store = openCassandraPinStore(cassandraOptions(cassandra.settings, keyspace));
    await store.migrate();
    await store.upsert(rows);
    await store.close();
    // Trino hears of a new keyspace some time after it was made.
    const deadline = Date.now() + TIMEOUT_MS;
    const shows = async () => (await ask('show schemas from cassandra')).rows.flat().includes(keyspace);
    while (!(await shows()) && Date.now() < deadline) await sleep(POLL_MS);
  }, TIMEOUT_MS);
  afterAll(() => dropKeyspaces(cassandra.settings, [keyspace]), TIMEOUT_MS);

  test.each([
    'select category, count(*) as n, max(follower_count) as top from userposts group by 1 order by 1',
    `select category, count(*) as n, max(follower_count) as top from cassandra.${'$keyspace'}.userposts group by 1 order by 1;`,
  ])(
    'answers %s',
    async (sql) => {
      expect(await ask(sql.replace('$keyspace', keyspace))).toEqual({
        columns: ['category', 'n', 'top'],
        rows: [
          ['art', 20, 19],
          ['home', 10, null],
        ],
        truncated: false,
      });
    },
    TIMEOUT_MS,
  );

  test(
    'gives every column of a row',
    async () => {
      const [row] = rows;
      const sql = `select title, tag_list, is_error, index_no, cast(write_ts as varchar) from userposts where unique_id = uuid '${row?.uniqueId}'`;
      const { rows: found } = await ask(sql);
      expect(found).toEqual([
        [row?.title, JSON.stringify(row?.tagList), false, row?.indexNo, String(row?.writeTimestamp)],
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    'names the columns of an answer without rows',
    async () => {
      const sql = 'select title, category from userposts where index_no = 99';
      expect(await ask(sql)).toEqual({ columns: ['title', 'category'], rows: [], truncated: false });
    },
    TIMEOUT_MS,
  );

  test(
    'stops at the limit, says so, and cancels what it no longer reads',
    async () => {
      const title = crypto.randomUUID();
      const endless = `select a.index_no, '${title}' from userposts a, userposts b, userposts c, userposts d, userposts e`;
      const { rows: found, truncated } = await ask(endless, 5);
      expect([found.length, truncated]).toEqual([5, true]);
      const state = `select state from system.runtime.queries where query like '%${title}%' and query not like '%runtime%'`;
      expect((await ask(state)).rows).toEqual([['FAILED']]);
      expect(await ask('select 1 as one from userposts', 30)).toMatchObject({ truncated: false });
    },
    TIMEOUT_MS,
  );

  test(
    'passes on why a query is wrong',
    async () => {
      const asked = ask('select nope from userposts');
      await expect(asked).rejects.toMatchObject({
        code: 'query',
        retryable: false,
        message: expect.stringContaining("'nope'"),
      });
      await expect(ask('select * from nowhere')).rejects.toMatchObject({
        message: expect.stringContaining('TABLE_NOT_FOUND'),
      });
    },
    TIMEOUT_MS,
  );

  test(
    'does not write',
    async () => {
      for (const sql of ['delete from userposts', 'explain analyze delete from userposts', 'drop table userposts']) {
        await expect(ask(sql)).rejects.toMatchObject({
          code: 'query',
          message: expect.stringContaining('only reading'),
        });
      }
      expect((await ask('select count(*) from userposts')).rows).toEqual([[30]]);
    },
    TIMEOUT_MS,
  );
});

/** The statement protocol as Presto's documentation gives it: a query that is queued, then has two pages. */
const playback = (seen: Headers[], answerFirst: () => Response | null = () => null) => {
  const columns = [{ name: 'n', type: 'bigint' }];
  const play = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    fetch: (request) => {
      const early = answerFirst();
      if (early !== null) return early;
      seen.push(request.headers);
      const { pathname, origin } = new URL(request.url);
      const page = (next: string | undefined, data?: unknown) =>
        Response.json({ id: 'q1', columns, data, nextUri: next && `${origin}/v1/statement/q1/${next}`, stats: {} });
      if (pathname === '/v1/statement') return page('1');
      if (pathname.endsWith('/1')) return page('2');
      return pathname.endsWith('/2') ? page('3', [[1], [2]]) : page(undefined, [[3]]);
    },
  });
  return { url: `http://127.0.0.1:${play.port}`, stop: () => play.stop(true) };
};

describe('the statement protocol', () => {
  const names = (headers: readonly Headers[]) =>
    new Set(headers.flatMap((each) => [...each.keys()].filter((name) => /^x-(presto|trino)-/.test(name))));

  test.each([
    ['true', 'presto', 'trino'],
    ['false', 'trino', 'presto'],
  ])(
    'TRINO_PRESTO_HEADERS=%s sends X-%s-* with every request and no X-%s-*',
    async (TRINO_PRESTO_HEADERS, sent, notSent) => {
      const seen: Headers[] = [];
      const { url, stop } = playback(seen);
      const config = readConfig({ TRINO_URL: url, TRINO_USER: 'someone', TRINO_PRESTO_HEADERS });
      expect(await queryTrino(config, 'select n from t', 10)).toEqual({
        columns: ['n'],
        rows: [[1], [2], [3]],
        truncated: false,
      });
      expect(seen.length).toBe(4);
      for (const headers of seen) {
        expect(headers.get(`x-${sent}-user`)).toBe('someone');
        expect(headers.get(`x-${sent}-catalog`)).toBe('cassandra');
        expect(headers.get(`x-${sent}-schema`)).toBe('pinkeyspace');
      }
      expect([...names(seen)].filter((name) => name.startsWith(`x-${notSent}-`))).toEqual([]);
      await stop();
    },
  );

  test('tries again when the coordinator is not ready', async () => {
    let notReady = 3;
    const { url, stop } = playback([], () => (notReady-- > 0 ? new Response('starting', { status: 503 }) : null));
    const { rows } = await queryTrino(readConfig({ TRINO_URL: url }), 'select n from t', 10);
    expect(rows.length).toBe(3);
    await stop();
  });

  test('names TRINO_URL without its password when nobody answers', async () => {
    const { url, stop } = playback([]);
    await stop();
    const config = readConfig({ TRINO_URL: url.replace('//', '//user:hidden@') });
    const error = await queryTrino(config, 'select 1', 1).catch((e: unknown) => e as Error);
    expect(error).toMatchObject({ code: 'query', retryable: true });
    expect((error as Error).message).toContain('TRINO_URL');
    expect(Bun.inspect(error)).not.toContain('hidden');
  });

  test('names TRINO_USER when it is not let in', async () => {
    const { url, stop } = playback([], () => new Response('Access denied', { status: 401 }));
    const asked = queryTrino(readConfig({ TRINO_URL: url }), 'select 1', 1);
    await expect(asked).rejects.toMatchObject({
      retryable: false,
      message: expect.stringMatching(/Access denied.*TRINO_USER/),
    });
    await stop();
  });
});
