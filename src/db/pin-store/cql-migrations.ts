import type { Client } from 'cassandra-driver';
import keyspaceCql from '../../../migrations/cql/0001_keyspace.cql' with { type: 'text' };
import userpostsCql from '../../../migrations/cql/0002_userposts.cql' with { type: 'text' };
import generationCql from '../../../migrations/cql/0003_generation.cql' with { type: 'text' };
import queryTablesCql from '../../../migrations/cql/0004_query_tables.cql' with { type: 'text' };
import { PinflowError } from '../../errors.ts';
import { retry } from '../../retry.ts';
import { type CqlPlace, faultOf, isSchemaFault, placeOf } from './cql-errors.ts';
import { checkShape, columnTypes } from './cql-shape.ts';

/** Every file of migrations/cql, in the order of its number: forward only, and never changed once released. */
export const MIGRATIONS: readonly (readonly [name: string, cql: string])[] = [
  ['0001_keyspace', keyspaceCql],
  ['0002_userposts', userpostsCql],
  ['0003_generation', generationCql],
  ['0004_query_tables', queryTablesCql],
];

export type MigrationOptions = CqlPlace & {
  readonly datacenter: string;
  /** Replicas in the local data centre when the keyspace is created. */
  readonly replication: number;
  readonly username: string | undefined;
};

/** The statements of a migration, without comments, its placeholders filled in. */
export const statementsOf = (cql: string, options: MigrationOptions): readonly string[] => {
  const values: Readonly<Record<string, string>> = {
    keyspace: options.keyspace,
    datacenter: `'${options.datacenter.replaceAll("'", "''")}'`,
    replication: String(options.replication),
  };
  return cql
    .replaceAll(/--[^\n]*/g, '')
    .replaceAll(/\$\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole)
    .split(/;\s*(?:\n|$)/)
    .flatMap((statement) => statement.trim() || []);
};

/** Another process creates the same: a keyspace or table may be listed a moment before the node answers for it. */
const ATTEMPTS = 8;
const RETRY_BASE_MS = 50;
const RETRY_MAX_MS = 1000;

const PLAIN = { prepare: false };

const keyspaceExists = async (client: Client, keyspace: string): Promise<boolean> => {
  const found = await client.execute('SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?', [
    keyspace,
  ]);
  return found.rowLength > 0;
};

const appliedNames = async (client: Client, keyspace: string): Promise<ReadonlySet<string>> => {
  try {
    const found = await client.execute(`SELECT name FROM ${keyspace}.schema_migrations`, [], PLAIN);
    return new Set(found.rows.map((row) => row.name as string));
  } catch (error) {
    if (isSchemaFault(error)) return new Set();
    throw error;
  }
};

const createKeyspace = async (client: Client, statement: string, options: MigrationOptions): Promise<void> => {
  // IF NOT EXISTS asks for the permission to create even when there is nothing to create.
  if (await keyspaceExists(client, options.keyspace)) return;
  try {
    await client.execute(statement, [], PLAIN);
  } catch (error) {
    if (faultOf(error) !== 'setup') throw error;
    const user = options.username ?? 'anonymous';
    throw new PinflowError(
      'config',
      `keyspace ${options.keyspace} is missing at ${placeOf(options)} and its user may not create it. An administrator should run:\n` +
        `${statement};\nGRANT ALL PERMISSIONS ON KEYSPACE ${options.keyspace} TO "${user}";`,
      { cause: error },
    );
  }
};

const ADD_COLUMN = /^ALTER TABLE \w+\.(\w+) ADD (\w+) /i;

/** ADD knows no IF NOT EXISTS in ScyllaDB, and two processes may add the same column at once. */
const addColumn = async (client: Client, statement: string, keyspace: string): Promise<void> => {
  const [, table = '', column = ''] = ADD_COLUMN.exec(statement) ?? [];
  const exists = async () => (await columnTypes(client, keyspace, table)).has(column);
  if (await exists()) return;
  try {
    await client.execute(statement, [], PLAIN);
  } catch (error) {
    if (!(await exists())) throw error;
  }
};

const applyMissing = async (client: Client, options: MigrationOptions): Promise<void> => {
  const applied = await appliedNames(client, options.keyspace);
  for (const [name, cql] of MIGRATIONS) {
    if (applied.has(name)) continue;
    for (const statement of statementsOf(cql, options)) {
      if (/^CREATE KEYSPACE/i.test(statement)) await createKeyspace(client, statement, options);
      else if (ADD_COLUMN.test(statement)) await addColumn(client, statement, options.keyspace);
      else await client.execute(statement, [], PLAIN);
    }
    const record = `INSERT INTO ${options.keyspace}.schema_migrations (name, applied_at) VALUES (?, toTimestamp(now()))`;
    await client.execute(record, [name]);
  }
};

/**
 * Applies what is not applied yet, in order. Statements are IF NOT EXISTS and the driver waits for the nodes to agree after each, so
 * processes that migrate at once do the same things. No lock: lightweight transactions do not work with ScyllaDB's tablets before 2025.4.
 * (Cassandra up to 5 may give a table that two nodes create in the same instant two ids: migrate a new cluster from one process.)
 */
export const migrateCql = async (client: Client, options: MigrationOptions): Promise<void> => {
  await retry(() => applyMissing(client, options), {
    attempts: ATTEMPTS,
    baseMs: RETRY_BASE_MS,
    maxMs: RETRY_MAX_MS,
    retryable: isSchemaFault,
  });
  await checkShape(client, options);
};
