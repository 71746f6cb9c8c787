import type { PinRow, PinStore, PinStoreName } from '../db/pin-store/pin-store.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Retrying } from './clean-retry.ts';

/** Rows of one upsert call: bounds an adapter's memory and how long a drain waits; large enough to spread an fsync. */
export const UPSERT_ROWS = 2000;

export type RefusedRow = { readonly row: PinRow; readonly reason: string };

/** One pin store, as a batch run writes to it. It lives as long as the cleaner. */
export type StoreWriter = {
  readonly name: PinStoreName;
  /** Creates or upgrades the store's schema, once. @throws PinflowError `pin_store_unavailable` */
  readonly prepare: () => Promise<void>;
  /**
   * Upserts the rows, in chunks. A row that the store refuses for good is found and answered; its neighbours land.
   * @returns null when `signal` aborted before all of them were sent
   * @throws PinflowError `pin_store_unavailable`, `disk_full`: the store, not a row, is at fault
   */
  readonly upsert: (rows: readonly PinRow[], signal: AbortSignal) => Promise<readonly RefusedRow[] | null>;
};

export type StoreWriterDeps = {
  readonly store: PinStore;
  readonly retrying: Retrying;
  readonly reached: (point: 'chunk upserted') => void;
};

/** The store is at fault, not a row: it is down, its disk is full, or it is not set up. */
export const isStoreFailure = (error: unknown): boolean =>
  isPinflowError(error) && (error.retryable || error.code === 'disk_full' || error.code === 'config');

const refusesAll = (store: PinStore, cause: unknown) =>
  new PinflowError(
    'pin_store_unavailable',
    `${store.name} (${store.location}) refuses every row, not one alone: ${messageOf(cause)}. Check its schema (\`migrate\`) and the rights of its user; nothing was set aside.`,
    { cause },
  );

/**
 * Tells a poison row from a store that refuses everything (a dropped table, revoked rights): a row is condemned only while
 * the store demonstrably takes another. The proof is a row that landed before: writing it again changes nothing.
 */
export const createStoreWriter = ({ store, retrying, reached }: StoreWriterDeps): StoreWriter => {
  let prepared: Promise<void> | null = null;
  let landed: PinRow | null = null;

  const send = async (rows: readonly PinRow[], signal: AbortSignal) => {
    await retrying(store.name, () => store.upsert(rows), signal);
    landed = rows[0] ?? landed;
    reached('chunk upserted');
  };

  const assertHealthy = async (cause: unknown) => {
    try {
      await (landed === null ? store.check() : store.upsert([landed]));
    } catch {
      throw refusesAll(store, cause);
    }
  };

  const split = async (rows: readonly PinRow[], cause: unknown, signal: AbortSignal): Promise<RefusedRow[]> => {
    if (rows.length === 1) return rows.map((row) => ({ row, reason: messageOf(cause) }));
    const middle = Math.ceil(rows.length / 2);
    const refused: RefusedRow[] = [];
    for (const half of [rows.slice(0, middle), rows.slice(middle)]) {
      try {
        await send(half, signal);
      } catch (error) {
        if (isStoreFailure(error)) throw error;
        refused.push(...(await split(half, error, signal)));
      }
    }
    return refused;
  };

  const upsertChunk = async (rows: readonly PinRow[], signal: AbortSignal): Promise<readonly RefusedRow[]> => {
    try {
      await send(rows, signal);
      return [];
    } catch (error) {
      if (isStoreFailure(error)) throw error;
      await assertHealthy(error);
      const refused = await split(rows, error, signal);
      if (landed === null) throw refusesAll(store, error);
      return refused;
    }
  };

  return {
    name: store.name,
    prepare: () => {
      prepared ??= store.migrate().catch((error: unknown) => {
        prepared = null;
        throw error;
      });
      return prepared;
    },
    upsert: async (rows, signal) => {
      const refused: RefusedRow[] = [];
      for (let at = 0; at < rows.length; at += UPSERT_ROWS) {
        if (signal.aborted) return null;
        refused.push(...(await upsertChunk(rows.slice(at, at + UPSERT_ROWS), signal)));
      }
      return refused;
    },
  };
};
