import type { types } from 'cassandra-driver';
import { retry } from '../../retry.ts';
import { cellTimestamp } from './cql-rows.ts';
import type { CqlSession } from './cql-session.ts';
import type { CqlTables } from './cql-tables.ts';

/** Rows in one page of a scan: with every nullable column null still a fifth of Cassandra's tombstone_failure_threshold (100,000). */
const SCAN_PAGE_ROWS = 2000;
/** Pieces the ring is scanned in: each page then touches few nodes, however large the cluster. */
const SCAN_PIECES = 16n;
/** Deletes under way at once in a sweep: leftovers are few, and readers come first. */
const SWEEP_IN_FLIGHT = 32;
/** Tries of one page: a scan of minutes should outlive a node's restart. */
const SCAN_ATTEMPTS = 6;
const SCAN_RETRY_BASE_MS = 200;
const SCAN_RETRY_MAX_MS = 5000;

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

export type CqlScan = {
  /** Every row once, its id, version and generation, in bounded memory. */
  readonly scan: () => AsyncIterable<readonly types.Row[]>;
  /** As {@link PinStore.sweep}. */
  readonly sweep: (generation: number, signal?: AbortSignal) => Promise<number | null>;
};

const generationOf = (row: types.Row): number => (row.generation as number | null) ?? 0;

/**
 * What goes through the whole of `userposts`.
 * @param tables that follow it (Default: none)
 */
export const cqlScan = (session: CqlSession, keyspace: string, tables: CqlTables | null = null): CqlScan => {
  const table = `${keyspace}.userposts`;
  const select = `SELECT unique_id, write_ts, generation FROM ${table} WHERE token(unique_id) > ? AND token(unique_id) <= ?`;
  const page = (range: readonly [bigint, bigint], pageState: string | undefined) => {
    const options = { prepare: true, isIdempotent: true, fetchSize: SCAN_PAGE_ROWS, pageState };
    return retry(() => session.run((client) => client.execute(select, [...range], options)), {
      attempts: SCAN_ATTEMPTS,
      baseMs: SCAN_RETRY_BASE_MS,
      maxMs: SCAN_RETRY_MAX_MS,
    });
  };

  const scan = async function* (): AsyncGenerator<readonly types.Row[]> {
    for (const range of ringPieces(SCAN_PIECES)) {
      let pageState: string | undefined;
      do {
        const found = await page(range, pageState);
        if (found.rowLength > 0) yield found.rows;
        pageState = found.pageState ?? undefined;
      } while (pageState !== undefined);
    }
  };

  /** At the row's own timestamp: what is written meanwhile is above it. A row of someone else's hand has none: it goes as of now. */
  const remove = (row: types.Row) => {
    const written = row.write_ts === null ? Date.now() * 1000 : Number(row.write_ts);
    const at = cellTimestamp(written, generationOf(row));
    const statement = `DELETE FROM ${table} USING TIMESTAMP ? WHERE unique_id = ?`;
    return session.run((client) => client.execute(statement, [at, row.unique_id]));
  };

  const sweep = async (generation: number, signal?: AbortSignal): Promise<number | null> => {
    let removed = 0;
    for await (const rows of scan()) {
      const older = rows.filter((row) => generationOf(row) < generation);
      for (let at = 0; at < older.length; at += SWEEP_IN_FLIGHT) {
        if (signal?.aborted) return null;
        const some = older.slice(at, at + SWEEP_IN_FLIGHT);
        await tables?.forget(some.map((row) => String(row.unique_id)));
        await Promise.all(some.map(remove));
      }
      removed += older.length;
      if (signal?.aborted) return null;
    }
    return removed;
  };

  return { scan, sweep };
};
