import { PinflowError } from '../../errors.ts';
import { retry } from '../../retry.ts';
import { migrateCql } from './cql-migrations.ts';
import { selectCql, toPinRow } from './cql-rows.ts';
import { type CqlOptions, openCqlSession } from './cql-session.ts';
import { cqlWriter } from './cql-writer.ts';
import type { PinStore, PinVersion } from './pin-store.ts';

export type CassandraPinStoreOptions = CqlOptions & {
  /** Replicas in the local data centre when the keyspace is created. */
  readonly replication: number;
};

/** Rows in one page of a scan: with every nullable column null still a fifth of Cassandra's tombstone_failure_threshold (100,000). */
const SCAN_PAGE_ROWS = 2000;
/** Pieces the ring is scanned in: each page then touches few nodes, however large the cluster. */
const SCAN_PIECES = 16n;
/** Tries of one page: a scan of minutes should outlive a node's restart. */
const SCAN_ATTEMPTS = 6;
const SCAN_RETRY_BASE_MS = 200;
const SCAN_RETRY_MAX_MS = 5000;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const RING_START = -(2n ** 63n);
const RING_END = 2n ** 63n - 1n;

/** The token ring of Murmur3Partitioner (the default of both) as ranges (start, end]; no key has the token RING_START. */
const ringPieces = (pieces: bigint): readonly (readonly [start: bigint, end: bigint])[] => {
  const width = 2n ** 64n / pieces;
  return Array.from({ length: Number(pieces) }, (_, i) => {
    const start = RING_START + BigInt(i) * width;
    return [start, BigInt(i) === pieces - 1n ? RING_END : start + width] as const;
  });
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
  const upsert = cqlWriter(session, options);

  const page = (range: readonly [bigint, bigint], pageState: string | undefined) =>
    retry(
      () =>
        session.run((client) =>
          client.execute(
            `SELECT unique_id, write_ts FROM ${table} WHERE token(unique_id) > ? AND token(unique_id) <= ?`,
            [...range],
            { prepare: true, isIdempotent: true, fetchSize: SCAN_PAGE_ROWS, pageState },
          ),
        ),
      { attempts: SCAN_ATTEMPTS, baseMs: SCAN_RETRY_BASE_MS, maxMs: SCAN_RETRY_MAX_MS },
    );

  const versions = async function* (): AsyncGenerator<readonly PinVersion[]> {
    for (const range of ringPieces(SCAN_PIECES)) {
      let pageState: string | undefined;
      do {
        const found = await page(range, pageState);
        if (found.rowLength > 0) {
          yield found.rows.map((row) => ({ uniqueId: String(row.unique_id), writeTimestamp: Number(row.write_ts) }));
        }
        pageState = found.pageState ?? undefined;
      } while (pageState !== undefined);
    }
  };

  return {
    name: options.name,
    location: `${options.contactPoints.join(',')}/${options.keyspace}`,
    supports: { sql: false },
    migrate: () => session.run((client) => migrateCql(client, options)),
    upsert,
    get: async (uniqueId) => {
      if (!UUID.test(uniqueId)) return null;
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
