import { eachOf } from '../db/pin-store/each-of.ts';
import type { PinRow, PinStore, PinStoreName } from '../db/pin-store/pin-store.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Retrying } from './clean-retry.ts';

/** Rows of one upsert call: bounds an adapter's memory and how long a drain waits; large enough to spread an fsync. */
export const UPSERT_ROWS = 2000;
/** Upsert calls under way at once: the next one's rows are on their way while the last requests of one are answered. */
const CALLS_IN_FLIGHT = 2;

export type RefusedRow = { readonly row: PinRow; readonly reason: string };

/** One pin store, as a batch run writes to it. It lives as long as the cleaner. */
export type StoreWriter = {
  readonly name: PinStoreName;
  /** Creates or upgrades the store's schema, once. @throws PinflowError `pin_store_unavailable` */
  readonly prepare: () => Promise<void>;
  /**
   * Upserts the rows, in chunks. A row that the store refuses for good is found and answered; its neighbours land.
   * @param generation see PinStore (Default: 0)
   * @returns null when `signal` aborted before all of them were sent
   * @throws PinflowError `pin_store_unavailable`, `disk_full`: the store, not a row, is at fault
   */
  readonly upsert: (
    rows: readonly PinRow[],
    signal: AbortSignal,
    generation?: number,
  ) => Promise<readonly RefusedRow[] | null>;
  /** Removes the rows of older generations. @returns how many, null when `signal` aborted before the end */
  readonly sweep: (generation: number, signal: AbortSignal) => Promise<number | null>;
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

type Chunk = { readonly rows: readonly PinRow[]; readonly generation: number; readonly signal: AbortSignal };

/**
 * Tells a poison row from a store that refuses everything (a dropped table, revoked rights): a row is condemned only while
 * the store demonstrably takes another. The proof is a row that landed before: writing it again changes nothing.
 */
export const createStoreWriter = ({ store, retrying, reached }: StoreWriterDeps): StoreWriter => {
  let prepared: Promise<void> | null = null;
  let landed: { readonly row: PinRow; readonly generation: number } | null = null;

  const send = async ({ rows, generation, signal }: Chunk) => {
    await retrying(store.name, () => store.upsert(rows, generation), signal);
    if (rows[0] !== undefined) landed = { row: rows[0], generation };
    reached('chunk upserted');
  };

  const assertHealthy = async (cause: unknown) => {
    try {
      await (landed === null ? store.check() : store.upsert([landed.row], landed.generation));
    } catch {
      throw refusesAll(store, cause);
    }
  };

  const split = async (chunk: Chunk, cause: unknown): Promise<RefusedRow[]> => {
    const { rows } = chunk;
    if (rows.length === 1) return rows.map((row) => ({ row, reason: messageOf(cause) }));
    const middle = Math.ceil(rows.length / 2);
    const refused: RefusedRow[] = [];
    for (const half of [rows.slice(0, middle), rows.slice(middle)]) {
      try {
        await send({ ...chunk, rows: half });
      } catch (error) {
        if (isStoreFailure(error)) throw error;
        refused.push(...(await split({ ...chunk, rows: half }, error)));
      }
    }
    return refused;
  };

  const upsertChunk = async (chunk: Chunk): Promise<readonly RefusedRow[]> => {
    try {
      await send(chunk);
      return [];
    } catch (error) {
      if (isStoreFailure(error)) throw error;
      await assertHealthy(error);
      const refused = await split(chunk, error);
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
    upsert: async (rows, signal, generation = 0) => {
      const refused: (readonly RefusedRow[])[] = [];
      const starts = Array.from({ length: Math.ceil(rows.length / UPSERT_ROWS) }, (_, n) => n * UPSERT_ROWS);
      let isWhole = true;
      await eachOf(starts, CALLS_IN_FLIGHT, async (at) => {
        if (signal.aborted) isWhole = false;
        else refused[at] = await upsertChunk({ rows: rows.slice(at, at + UPSERT_ROWS), generation, signal });
      });
      return isWhole ? refused.flat() : null;
    },
    sweep: (generation, signal) => retrying(store.name, () => store.sweep(generation, signal), signal),
  };
};
