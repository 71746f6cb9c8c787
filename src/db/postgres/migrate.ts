import { sql } from 'drizzle-orm';
import { type MigrationMeta, readMigrationFiles } from 'drizzle-orm/migrator';
import { PinflowError } from '../../errors.ts';
import { postgresError } from './errors.ts';
import type { Database } from './open.ts';

const MIGRATIONS = Bun.fileURLToPath(new URL('../../../migrations/postgres', import.meta.url));

/** Any constant will do, as long as every pinflow uses the same: "pinf" in ASCII. */
const LOCK = 0x70696e66;

type Session = Pick<Database['db'], 'execute'>;

/** Time stamp of the newest migration the database has, or 0. */
const newestApplied = async (session: Session): Promise<number> => {
  // Not to_regclass: it answers from a cache of names that does not see what was committed while this waited for the lock.
  const tables = await session.execute(
    sql`select 1 from pg_catalog.pg_tables where schemaname = 'drizzle' and tablename = '__drizzle_migrations'`,
  );
  if (tables.length === 0) return 0;
  const [row] = await session.execute(sql`select max(created_at) as newest from drizzle.__drizzle_migrations`);
  return Number(row?.newest ?? 0);
};

const newestOf = (migrations: readonly MigrationMeta[]) => Math.max(0, ...migrations.map((m) => m.folderMillis));

const refuseNewer = (applied: number, known: number): void => {
  if (applied <= known) return;
  throw new PinflowError(
    'config',
    `the tables of Postgres were made by a newer pinflow (migration of ${new Date(applied).toISOString()}; this one knows up to ${new Date(known).toISOString()}). Run that version, or point DATABASE_URL at another database.`,
  );
};

const apply = async (tx: Session, { sql: statements, hash, folderMillis }: MigrationMeta): Promise<void> => {
  for (const statement of statements) await tx.execute(sql.raw(statement));
  await tx.execute(sql`insert into drizzle.__drizzle_migrations (hash, created_at) values (${hash}, ${folderMillis})`);
};

/**
 * Brings the tables up to this program's version; forward only, and safe when several processes start at once.
 * Check, lock and all migrations are one transaction. Drizzle's own `migrate` takes no lock and cannot run inside a
 * transaction that holds one, so its files and its table are used without it. A transaction's lock, unlike a session's,
 * works through a pooler and on the embedded Postgres too, whose connections share one session.
 *
 * @param folder as written by `drizzle-kit generate`
 * @returns true when there was something to do
 * @throws PinflowError `config` when the tables are newer than this program, `postgres_unavailable`
 */
export const migratePostgres = async ({ db }: Pick<Database, 'db'>, folder: string = MIGRATIONS): Promise<boolean> => {
  const migrations = readMigrationFiles({ migrationsFolder: folder });
  const known = newestOf(migrations);
  try {
    const before = await newestApplied(db);
    refuseNewer(before, known);
    if (before === known) return false;
    return await db.transaction(async (tx) => {
      await tx.execute(sql`select pg_advisory_xact_lock(${LOCK})`);
      const applied = await newestApplied(tx);
      refuseNewer(applied, known);
      await tx.execute(sql`create schema if not exists drizzle`);
      await tx.execute(
        sql`create table if not exists drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)`,
      );
      const missing = migrations.filter((m) => m.folderMillis > applied);
      for (const migration of missing) await apply(tx, migration);
      return missing.length > 0;
    });
  } catch (error) {
    throw postgresError(error);
  }
};
