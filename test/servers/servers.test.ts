import { describe, expect, test } from 'bun:test';
import postgresJs from 'postgres';
import { freshBucket, freshDatabase } from './fresh.ts';
import { isAlive } from './process.ts';
import { ownServer, testServer } from './servers.ts';

const postgres = await testServer('postgres');
const s3 = await testServer('s3');

describe.skipIf('skip' in postgres)('a Postgres for tests', () => {
  test('gives each test a database of its own, and takes it away with those still connected to it', async () => {
    const [one, other] = [await freshDatabase(postgres.settings), await freshDatabase(postgres.settings)];
    const sql = postgresJs(one.url, { max: 1, onclose: () => {} });
    await sql`create table here (id int)`;
    await one.drop();
    await sql.end();
    const elsewhere = postgresJs(other.url, { max: 1 });
    expect((await elsewhere`select count(*)::int as n from pg_tables where tablename = 'here'`)[0]?.n).toBe(0);
    expect(
      (await elsewhere`select 1 from pg_database where datname = ${new URL(one.url).pathname.slice(1)}`).length,
    ).toBe(0);
    await elsewhere.end();
    await other.drop();
  });

  test.skipIf(!('from' in postgres && postgres.from === 'packages'))(
    'is another one when it is one’s own, and ends',
    async () => {
      const own = await ownServer('postgres');
      expect(own.settings.DATABASE_URL).not.toBe(postgres.settings.DATABASE_URL as string);
      await own.stop();
      expect(isAlive(own.pid)).toBe(false);
    },
    60_000,
  );

  test('is the same one for all files of a run', async () => {
    expect(await testServer('postgres')).toBe(postgres);
  });
});

describe.skipIf('skip' in s3)('an S3 server for tests', () => {
  test('gives each test a bucket of its own', async () => {
    const [one, other] = [await freshBucket(s3.settings), await freshBucket(s3.settings)];
    expect(`${one.S3_BUCKET}/${one.S3_PREFIX}`).not.toBe(`${other.S3_BUCKET}/${other.S3_PREFIX}`);
  });
});
