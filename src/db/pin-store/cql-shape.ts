import type { Client } from 'cassandra-driver';
import { PinflowError } from '../../errors.ts';
import { type CqlPlace, placeOf } from './cql-errors.ts';
import { COLUMNS, GENERATION } from './cql-rows.ts';

type ColumnTypes = ReadonlyMap<string, string>;

/** By the name of the column, as `system_schema` words them; empty where there is no such table. */
export const columnTypes = async (client: Client, keyspace: string, table: string): Promise<ColumnTypes> => {
  const found = await client.execute(
    'SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?',
    [keyspace, table],
  );
  return new Map(found.rows.map((row) => [row.column_name as string, row.type as string]));
};

/** @param missing also names columns that are not there */
const differences = (types: ColumnTypes, missing: boolean): readonly string[] =>
  [...Object.entries(COLUMNS), [GENERATION.name, GENERATION] as const].flatMap(([name, { type }]) => {
    const found = types.get(name);
    if (found === type || (found === undefined && !missing)) return [];
    return `${name} is ${found ?? 'missing'}, should be ${type}`;
  });

const refuse = (place: CqlPlace, wrong: readonly string[]): void => {
  if (wrong.length === 0) return;
  throw new PinflowError(
    'config',
    `table ${place.keyspace}.userposts at ${placeOf(place)} is another one: ${wrong.join('; ')}. Choose another CQL_KEYSPACE, or alter or drop the table.`,
  );
};

/**
 * CREATE TABLE IF NOT EXISTS takes a table of any shape for done, such as one with ordinary lists: look before rows are lost in it.
 * @throws PinflowError `config` that names each column of `userposts` that is missing or of another type
 */
export const checkShape = async (client: Client, place: CqlPlace): Promise<void> =>
  refuse(place, differences(await columnTypes(client, place.keyspace, 'userposts'), true));

/**
 * Before rows are written: they are encoded as migrations/cql has the columns, and not as the server says of the statement.
 * What is missing is left for the server to say.
 * @throws PinflowError `config` that names each column of `userposts` that is of another type
 */
export const checkTypes = async (client: Client, place: CqlPlace): Promise<void> =>
  refuse(place, differences(await columnTypes(client, place.keyspace, 'userposts'), false));
