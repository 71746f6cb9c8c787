import type { Config } from '../../config.ts';
import type { Logger } from '../../logger.ts';
import { openCassandraPinStore } from './cassandra.ts';
import type { PinStore } from './pin-store.ts';
import { openSqlitePinStore } from './sqlite.ts';

/** The embedded store, whatever else is set: what `query` reads without a Trino. */
export const openEmbeddedPinStore = (config: Config): PinStore =>
  openSqlitePinStore({ dir: config.DATA_DIR, keyspace: config.CQL_KEYSPACE, catalog: config.TRINO_CATALOG });

/** The batch views this configuration asks for: ScyllaDB and/or Cassandra, else the embedded one. Never empty. */
export const openPinStores = (config: Config, logger: Logger): readonly PinStore[] => {
  const { CQL_KEYSPACE: keyspace, CQL_REPLICATION: replication, CQL_QUERY_TABLES: queryTables } = config;
  const shared = { keyspace, replication, queryTables, logger };
  const stores: PinStore[] = [];
  if (config.SCYLLA_CONTACT_POINTS !== undefined) {
    stores.push(
      openCassandraPinStore({
        ...shared,
        name: 'scylla',
        contactPoints: config.SCYLLA_CONTACT_POINTS,
        datacenter: config.SCYLLA_DATACENTER,
        username: config.SCYLLA_USERNAME,
        password: config.SCYLLA_PASSWORD,
      }),
    );
  }
  if (config.CASSANDRA_CONTACT_POINTS !== undefined) {
    stores.push(
      openCassandraPinStore({
        ...shared,
        name: 'cassandra',
        contactPoints: config.CASSANDRA_CONTACT_POINTS,
        datacenter: config.CASSANDRA_DATACENTER,
        username: config.CASSANDRA_USERNAME,
        password: config.CASSANDRA_PASSWORD,
      }),
    );
  }
  return stores.length > 0 ? stores : [openEmbeddedPinStore(config)];
};
