import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cassandraOptions, dropKeyspaces } from '../../test/fixtures/cassandra.ts';
import { freshKeyspace } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { createLogger } from '../logger.ts';
import { retry } from '../retry.ts';
import { openCassandraPinStore } from './pin-store/cassandra.ts';
import { NULLS, pinRow } from './pin-store/contract-rows.ts';
import { openSqlitePinStore } from './pin-store/sqlite.ts';
import { runQuery } from './query.ts';

const page = await Bun.file(new URL('../../docs/queries.md', import.meta.url)).text();
const statements = [...page.matchAll(/^```sql\n(.*?)^```/gms)].map((match) => match[1] ?? '');

const trino = await testServer('trino');
const cassandra = await testServer('cassandra');
const logger = createLogger('silent', 'test');
const TIMEOUT_MS = 180_000;
const [ATTEMPTS, RETRY_MS] = [300, 500];

/** More pins of the day and category asked for than the statements answer, and others beside them. */
const noonMicros = (day: string) => Date.parse(`${day}T12:00:00Z`) * 1000;
const pins = (count: number, day: string, given: Parameters<typeof pinRow>[0]) =>
  Array.from({ length: count }, (_, n) =>
    pinRow({ followerCount: BigInt((n * 7) % 31), receivedAtMicros: noonMicros(day) + n, ...given }),
  );
const rows = [
  ...pins(25, '2026-11-23', {}),
  ...pins(5, '2026-11-22', { followerCount: null }),
  ...pins(7, '2026-11-23', { category: 'art', title: null, isError: true }),
  ...pins(3, '2026-11-23', NULLS),
];

const dir = mkdtempSync(join(tmpdir(), 'pinflow-queries-'));
const embedded = openSqlitePinStore({ dir, keyspace: 'pinkeyspace', catalog: 'cassandra' });
/** Days are text there: the page says so. */
const onEmbedded = (sql: string) => embedded.query(sql.replace("DATE '", "'"), 100);

beforeAll(async () => {
  await embedded.migrate();
  await embedded.upsert(rows);
});
afterAll(async () => {
  await embedded.close();
  rmSync(dir, { recursive: true, force: true });
});

test('the statements of docs/queries.md run on the embedded store', async () => {
  expect(statements).toHaveLength(3);
  const [newest, top, categories] = await Promise.all(statements.map(onEmbedded));
  expect(newest?.rows.map((row) => row[0])).toEqual(
    rows
      .slice(5, 25)
      .map((row) => row.uniqueId)
      .reverse(),
  );
  const followers = rows.slice(0, 25).map((row) => Number(row.followerCount));
  expect(top?.rows.map((row) => row.at(-1))).toEqual(followers.toSorted((a, b) => b - a).slice(0, 10));
  expect(categories?.rows).toEqual([
    ['mens-fashion', 30, 0],
    ['art', 7, 7],
    [null, 3, 3],
  ]);
});

describe.skipIf('skip' in trino || 'skip' in cassandra)('on a real Trino over a real Cassandra', () => {
  const keyspace = freshKeyspace();
  const config = readConfig({ ...trino.settings, CQL_KEYSPACE: keyspace });
  const ask = (sql: string) => runQuery({ config, logger, sql, limit: 100 });

  beforeAll(async () => {
    const store = openCassandraPinStore({ ...cassandraOptions(cassandra.settings, keyspace), queryTables: true });
    await store.migrate();
    await store.upsert(rows);
    await store.close();
    // Trino hears of a new keyspace some time after it was made, and has no node to run on when it has just started.
    const count = () => ask('select count(*) from userposts');
    await retry(count, { attempts: ATTEMPTS, baseMs: RETRY_MS, maxMs: RETRY_MS, retryable: () => true });
  }, TIMEOUT_MS);
  afterAll(() => dropKeyspaces(cassandra.settings, [keyspace]), TIMEOUT_MS);

  test.each(statements)(
    '%s answers the same',
    async (sql) => {
      const answer = await ask(sql.replaceAll('pinkeyspace', keyspace));
      expect(answer.rows.length).toBeGreaterThan(0);
      expect(answer).toEqual(await onEmbedded(sql));
      // Without catalog and keyspace, as the page allows.
      expect(await ask(sql.replaceAll('cassandra.pinkeyspace.', ''))).toEqual(answer);
    },
    TIMEOUT_MS,
  );
});
