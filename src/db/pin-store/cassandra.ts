import { PinflowError } from '../../errors.ts';
import { isUuid } from '../../pin/pin.ts';
import { migrateCql } from './cql-migrations.ts';
import { selectCql, toPinRow } from './cql-rows.ts';
import { cqlScan } from './cql-scan.ts';
import { type CqlOptions, openCqlSession } from './cql-session.ts';
import { cqlTables } from './cql-tables.ts';
import { cqlWriter } from './cql-writer.ts';
import type { PinStore, PinVersion } from './pin-store.ts';

export type CassandraPinStoreOptions = CqlOptions & {
  /** Replicas in the local data centre when the keyspace is created. */
  readonly replication: number;
  /** Also write the tables of migrations/cql/0004. (Default: false) */
  readonly queryTables?: boolean;
};

/**
 * The batch view in ScyllaDB or Cassandra, on the protocol both speak. It opens without connecting: a cluster that is away makes
 * calls fail as retryable, and later calls connect again.
 *
 * Rows are written at LOCAL_QUORUM with their own timestamp (`USING TIMESTAMP`), so of two versions the newer stays whatever the order.
 * Versions of one id with the very same timestamp are merged by the cluster column by column, the larger value winning; see writeTimestamp.
 */
export const openCassandraPinStore = (options: CassandraPinStoreOptions): PinStore => {
  const table = `${options.keyspace}.userposts`;
  const session = openCqlSession(options);
  const tables = options.queryTables ? cqlTables(session, options.keyspace) : null;
  const write = cqlWriter(session, options);

  const { scan, sweep } = cqlScan(session, options.keyspace, tables);

  const versions = async function* (): AsyncGenerator<readonly PinVersion[]> {
    for await (const rows of scan()) {
      yield rows.map((row) => ({ uniqueId: String(row.unique_id), writeTimestamp: Number(row.write_ts) }));
    }
  };

  return {
    name: options.name,
    location: `${options.contactPoints.join(',')}/${options.keyspace}`,
    supports: { sql: false },
    migrate: () => session.run((client) => migrateCql(client, options)),
    upsert: async (rows, generation = 0) => {
      if (rows.length > 0) await tables?.follow(rows, generation);
      await write(rows, generation);
    },
    sweep,
    get: async (uniqueId) => {
      if (!isUuid(uniqueId)) return null;
      const found = await session.run((client) => client.execute(selectCql(table), [uniqueId]));
      const row = found.first();
      return row === null ? null : toPinRow(row);
    },
    versions,
    // Page by page: one count(*) over the table runs into the cluster's time limit as it grows.
    count: async () => {
      let rows = 0;
      for await (const found of versions()) rows += found.length;
      return rows;
    },
    query: async () => {
      throw new PinflowError(
        'query',
        `${options.name} answers no SQL itself: set TRINO_URL to a Trino with it as catalog.`,
      );
    },
    check: async () => {
      await session.run((client) => client.execute(`SELECT unique_id FROM ${table} LIMIT 1`));
    },
    close: session.close,
  };
};
