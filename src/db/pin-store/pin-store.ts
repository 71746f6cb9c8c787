import type { CleanPin } from '../../pin/clean.ts';
import type { Position } from '../../pin/pin.ts';

/**
 * The port of the batch view: table `userposts` in keyspace `pinkeyspace`, one row a `unique_id`.
 * An upsert carries a write timestamp; the highest wins whatever the order of arrival, so a replay changes nothing.
 */
export type PinStoreName = 'embedded' | 'scylla' | 'cassandra';

export type PinRow = CleanPin & {
  /** Where the pin stands in the log. */
  readonly position: Position;
  /** Microseconds, from {@link writeTimestamp}: orders the versions of one id. */
  readonly writeTimestamp: number;
};

/** One id and the version of it that a view holds; what `reconcile` compares. */
export type PinVersion = { readonly uniqueId: string; readonly writeTimestamp: number };

export type PinStoreSupports = {
  /** `query` answers SQL itself (otherwise Trino does). */
  readonly sql: boolean;
};

export type QueryResult = {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
  /** True when the row limit cut the answer. */
  readonly truncated: boolean;
};

export type PinStore = {
  readonly name: PinStoreName;
  readonly location: string;
  readonly supports: PinStoreSupports;
  /** Creates or upgrades the schema. Safe to run from several processes at once. */
  readonly migrate: () => Promise<void>;
  /**
   * Durable when it resolves. Rows of one call have distinct ids (fold first). Idempotent.
   * @param generation of two writes of one version the one of the higher generation stays, so that a rebuild by better rules
   *   replaces what stands there; an update is above both. It may only rise over the life of a store. (Default: 0)
   * @throws PinflowError `pin_store_unavailable` (retryable by error class), `disk_full`; `config` when the schema, the
   *   credentials or the permissions are not right; `invalid_pin` naming rows the store refuses, the others are written
   */
  readonly upsert: (rows: readonly PinRow[], generation?: number) => Promise<void>;
  /**
   * Removes every row of an older generation; rows that are written meanwhile at this generation stay. Idempotent.
   * @returns how many there were; null when `signal` aborted before the end
   */
  readonly sweep: (generation: number, signal?: AbortSignal) => Promise<number | null>;
  readonly get: (uniqueId: string) => Promise<PinRow | null>;
  /** Every id once, in no promised order, in bounded memory. */
  readonly versions: () => AsyncIterable<readonly PinVersion[]>;
  readonly count: () => Promise<number>;
  /** Read-only SQL, at most `limit` rows. @throws PinflowError `query` when the statement is wrong or not read-only */
  readonly query: (sql: string, limit: number) => Promise<QueryResult>;
  readonly check: () => Promise<void>;
  readonly close: () => Promise<void>;
};
