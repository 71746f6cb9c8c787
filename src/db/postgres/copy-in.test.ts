import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { createLogger } from '../../logger.ts';
import { retry } from '../../retry.ts';
import { copyIn } from './copy-in.ts';
import { type Database, openPostgres } from './open.ts';

const SET_UP_MS = 60_000;
const logger = createLogger('silent', 'test');
const COPY = 'copy copied (n) from stdin';

const real = (await postgresEngines()).find((engine) => engine.name === 'a real PostgreSQL');

describe.skipIf(real?.available !== true)('COPY from the client', () => {
  let server: { url: string; stop: () => Promise<void> };
  let database: Database;

  beforeAll(async () => {
    server = await (real as NonNullable<typeof real>).start();
    database = openPostgres({ url: server.url, max: 1, logger, applicationName: 'test' });
    await database.sql`create table copied (n int check (n <> 13))`;
  }, SET_UP_MS);
  afterAll(async () => {
    await database.close();
    await server.stop();
  }, SET_UP_MS);

  const copied = async () =>
    (await database.sql`select count(*)::int4 as rows, coalesce(sum(n), 0)::int8 as total from copied`)[0];
  const copy = (text: string) => database.sql.begin((tx) => copyIn(tx, COPY, Buffer.from(text)));
  const failureOf = (work: Promise<unknown>) =>
    work.then(
      () => null,
      (error: unknown) => error,
    );

  test('takes more than one message, and rolls back with its transaction', async () => {
    const numbers = Array.from({ length: 200_000 }, (_, n) => n + 100);
    await copy(`${numbers.join('\n')}\n`);
    expect(await copied()).toEqual({ rows: numbers.length, total: String(numbers.reduce((a, b) => a + b, 0)) });
    await database.sql`truncate copied`;
    await failureOf(
      database.sql.begin(async (tx) => {
        await copyIn(tx, COPY, Buffer.from('1\n'));
        throw new Error('on second thoughts');
      }),
    );
    expect(await copied()).toEqual({ rows: 0, total: '0' });
  });

  const failures = [
    ['what only shows once all bytes are sent', '1\n13\n', '23514'],
    ['an error while bytes are still on their way', `x\n${'1\n'.repeat(2_000_000)}`, '22P02'],
    ['an error in the last line', `${'1\n'.repeat(400_000)}x\n`, '22P02'],
  ] as const;
  for (const [name, text, code] of failures) {
    test(`${name} is thrown, and the connection goes on`, async () => {
      expect(await failureOf(copy(text))).toMatchObject({ code });
      await copy('7\n');
      expect(await copied()).toEqual({ rows: 1, total: '7' });
      await database.sql`truncate copied`;
    });
  }

  test('a table that is not there is thrown', async () => {
    const work = database.sql.begin((tx) => copyIn(tx, 'copy nowhere from stdin', Buffer.from('1\n')));
    expect(await failureOf(work)).toMatchObject({ code: '42P01' });
  });

  test(
    'a connection that is cut while bytes are on their way is thrown, and the pool goes on with another',
    async () => {
      const other = openPostgres({ url: server.url, max: 1, logger, applicationName: 'other' });
      const work = database.sql.begin(async (tx) => {
        const [row] = await tx`select pg_backend_pid() as pid`;
        const copying = copyIn(tx, COPY, Buffer.from('1\n'.repeat(20_000_000)));
        await other.sql`select pg_terminate_backend(${row?.pid})`;
        await copying;
      });
      expect(await failureOf(work)).not.toBeNull();
      // The driver may need a second connection: it can greet the first with what it meant for the one that was cut.
      const rows = await retry(copied, { attempts: 5, baseMs: 50, maxMs: 500, retryable: () => true });
      expect(rows).toEqual({ rows: 0, total: '0' });
      await other.close();
    },
    SET_UP_MS,
  );
});
