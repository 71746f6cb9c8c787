import { describe, expect, test } from 'bun:test';
import { sql } from 'drizzle-orm';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { createLogger } from '../../logger.ts';
import { retry } from '../../retry.ts';
import { postgresError } from './errors.ts';
import { type Database, openPostgres } from './open.ts';

const TIMEOUT_MS = 60_000;
const logger = createLogger('silent', 'test');
const real = (await postgresEngines()).find((engine) => engine.name === 'a real PostgreSQL');

/** Each is in the middle of its transaction when the server ends the connection. */
const TRANSACTIONS: Readonly<Record<string, (database: Database, cut: (pid: number) => void) => Promise<unknown>>> = {
  'of the driver': ({ sql: driver }, cut) =>
    driver.begin(async (tx) => {
      const [row] = await tx`select pg_backend_pid() as pid`;
      cut(row?.pid);
      await tx`select pg_sleep(30)`;
    }),
  'of Drizzle': ({ db }, cut) =>
    db.transaction(async (tx) => {
      const [row] = await tx.execute(sql`select pg_backend_pid() as pid`);
      cut(Number(row?.pid));
      await tx.execute(sql`select pg_sleep(30)`);
    }),
};

describe.skipIf(real?.available !== true)('a pool', () => {
  for (const [kind, transact] of Object.entries(TRANSACTIONS)) {
    test(
      `goes on after a transaction ${kind} lost its connection`,
      async () => {
        const server = await (real as NonNullable<typeof real>).start();
        const [database, other] = ['one', 'other'].map((applicationName) =>
          openPostgres({ url: server.url, max: 1, logger, applicationName }),
        ) as [Database, Database];
        const cut = (pid: number) => void other.sql`select pg_terminate_backend(${pid})`.execute();
        const lost = await transact(database, cut).catch(postgresError);
        expect(lost).toMatchObject({ code: 'postgres_unavailable', retryable: true });
        const ask = () => database.check().then(() => 'answers');
        expect(await retry(ask, { attempts: 3, baseMs: 50, maxMs: 100 })).toBe('answers');
        await Promise.all([database.close(), other.close()]);
        await server.stop();
      },
      TIMEOUT_MS,
    );
  }
});
