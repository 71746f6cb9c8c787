import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { drizzle } from 'drizzle-orm/postgres-js';
import { startEmbeddedPostgres } from '../../src/db/postgres/embedded.ts';
import { migratePostgres } from '../../src/db/postgres/migrate.ts';
import { type Database, openPostgres } from '../../src/db/postgres/open.ts';
import { createLogger } from '../../src/logger.ts';
import type { PortDeps } from './ports.ts';
import { EPOCH_MS, type World } from './virtual-time.ts';

type Sql = Database['sql'];
type Unsafe = Sql['unsafe'];

/** A real Postgres for one seed after the other. */
export type SimPostgres = {
  readonly database: Database;
  readonly reset: () => Promise<void>;
  readonly close: () => Promise<void>;
};

const logger = createLogger('silent', 'sim');

/** The ledger's own clock is Postgres's: an own function of that name, found before the system's, shows the simulated time. */
const SIMULATED_CLOCK = [
  'create schema sim',
  `create function sim.clock_timestamp() returns timestamptz language sql volatile as
    $$ select to_timestamp(current_setting('sim.now')::float8 / 1000) $$`,
];
/** Said with each statement that asks the time: a session may be new, and the embedded Postgres has but one for all. */
const setTime = (ms: number) =>
  `select set_config('sim.now', '${ms}', false), set_config('search_path', 'sim, public, pg_catalog', false)`;

/** An embedded Postgres, its files in a folder that is best in memory. */
const startEmbedded = async (folder: string) => {
  const dir = await mkdtemp(join(folder, 'pinflow-sim-postgres-'));
  const { url, close } = await startEmbeddedPostgres({ dir: join(dir, 'postgres'), port: 0, logger });
  const stop = async () => {
    await close();
    await rm(dir, { recursive: true, force: true });
  };
  return { url, stop };
};

/** @param given URL of an empty database, or null to start the embedded one, its files under `folder` */
export const startSimPostgres = async (given: string | null, folder: string): Promise<SimPostgres> => {
  const { url, stop } = given === null ? await startEmbedded(folder) : { url: given, stop: async () => {} };
  const database = openPostgres({ url, max: 1, logger, applicationName: 'sim' });
  await migratePostgres(database);
  for (const statement of SIMULATED_CLOCK) await database.sql.unsafe(statement);
  const tables = await database.sql<{ name: string }[]>`
    select quote_ident(tablename) as name from pg_catalog.pg_tables where schemaname = 'public'`;
  const truncate = `truncate ${tables.map(({ name }) => name).join(', ')} restart identity`;
  return {
    database,
    reset: async () => void (await database.sql.unsafe(truncate)),
    close: async () => {
      await database.close();
      await stop();
    },
  };
};

/** What a statement is to its caller: awaited, or asked for its values as lists. */
const lazily = (run: (asValues: boolean) => Promise<unknown>) => ({
  // biome-ignore lint/suspicious/noThenProperty: the driver's own queries are thenables that begin when they are awaited
  then: (...handlers: Parameters<Promise<unknown>['then']>) => run(false).then(...handlers),
  catch: (handler: (error: unknown) => unknown) => run(false).catch(handler),
  values: () => run(true),
});

const CONDITION = 'and next_offset = $4';

/** The driver's transaction, or one in which the speed view's condition holds always. */
const transactionOf = (sabotage: PortDeps['sabotage']) => (tx: { readonly unsafe: Unsafe }) => {
  if (sabotage !== 'unconditional offset') return tx;
  const unsafe = (text: string, ...rest: unknown[]) => {
    if (text.includes('update stream_offsets') && !text.includes(CONDITION))
      throw new Error('the condition has another form now');
    return tx.unsafe(text.replace(CONDITION, 'and $4::int8 is not null'), ...(rest as []));
  };
  return { unsafe };
};

/** The pool as one process has it: one statement or transaction at a time, each a call over the network. */
export const databaseOf = (
  { network, process, sabotage }: PortDeps,
  world: World,
  { database }: SimPostgres,
): Database => {
  const { sql } = database;
  const call = <T>(operation: string, work: () => Promise<T>, asksTime = false) =>
    network.call(process, 'postgres', operation, true, () =>
      world.outside(async () => {
        // Its own machine's clock, which does not jump: leases are timed by it.
        if (asksTime) await sql.unsafe(setTime(EPOCH_MS + world.now()));
        return work();
      }),
    );
  const wrapTransaction = transactionOf(sabotage);
  const own: Readonly<Record<string, unknown>> = {
    unsafe: (...query: Parameters<Unsafe>) =>
      lazily((asValues) =>
        call(
          'query',
          async () => (asValues ? sql.unsafe(...query).values() : sql.unsafe(...query)),
          query[0].includes('clock_timestamp'),
        ),
      ),
    begin: (work: (tx: unknown) => Promise<unknown>) =>
      call('begin', () => sql.begin((tx) => work(wrapTransaction(tx)))),
  };
  const wrapped = new Proxy(sql, {
    get: (target, name, receiver) => (typeof name === 'string' && own[name]) || Reflect.get(target, name, receiver),
    apply: (target, self, values) => lazily(() => call('query', () => Reflect.apply(target, self, values))),
  });
  return {
    ...database,
    sql: wrapped,
    db: drizzle(wrapped),
    check: () => call('check', database.check),
    close: async () => {},
  };
};
