import { join } from 'node:path';
import postgresJs from 'postgres';
import { findPostgres, freePorts, installPackages, run } from './install.ts';
import { launch } from './process.ts';
import type { Recipe, StartOptions } from './recipe.ts';

/** PostgreSQL from the system's packages. */
const isRoot = () => process.getuid?.() === 0;

/** PostgreSQL refuses to run as root: there, the user of Debian's package runs it. */
const asUser = (command: readonly string[]): readonly string[] =>
  isRoot() ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', ...command] : command;

const start = async ({ folder, port }: StartOptions) => {
  const [free = 0] = await freePorts(1);
  const bin = findPostgres() ?? '';
  const data = join(folder, 'data');
  const listen = String(port ?? free);
  if (isRoot()) await run(['chown', 'postgres', folder]);
  await run(asUser([join(bin, 'initdb'), '-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--no-sync']));
  const options = ['-p', listen, '-h', '127.0.0.1', '-k', folder, '-c', 'max_connections=200'];
  const pid = launch(asUser([join(bin, 'postgres'), '-D', data, ...options]), folder);
  return { pid, settings: { DATABASE_URL: `postgres://postgres@127.0.0.1:${listen}/postgres` }, extra: {} };
};

export const postgres: Recipe = {
  name: 'postgres',
  needs: [],
  fromVariables: (env) => (env.TEST_DATABASE_URL ? { DATABASE_URL: env.TEST_DATABASE_URL } : null),
  compose: { DATABASE_URL: 'postgres://pinflow:pinflow@127.0.0.1:5432/pinflow' },
  answers: async (settings) => {
    const sql = postgresJs(settings.DATABASE_URL ?? '', { max: 1, connect_timeout: 2, onnotice: () => {} });
    try {
      await sql`select 1`;
      return true;
    } catch {
      return false;
    } finally {
      await sql.end({ timeout: 1 });
    }
  },
  missing: () => (findPostgres() === null ? 'PostgreSQL (the package `postgresql`)' : null),
  install: () => installPackages('postgresql'),
  start,
  startTimeoutMs: 30_000,
};
