import { archivePartitions, listManifest } from '../blob/archive.ts';
import type { BlobStore } from '../blob/blob.ts';
import { addObjects, frontier, type KnownObject } from '../db/postgres/ledger.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { Retrying } from './clean-retry.ts';

/** Manifest entries added to the ledger in one statement. */
const DISCOVER_BATCH = 500;

export type DiscoverDeps = {
  readonly store: BlobStore;
  readonly database: Database;
  readonly retrying: Retrying;
};

export type Discovered = {
  /** Why parts of the manifest could not be read, one sentence each. */
  readonly failures: readonly string[];
  /** First offset by partition of the newest object known. */
  readonly frontier: ReadonlyMap<number, number>;
  readonly partitions: readonly number[];
};

/** Adds what the manifest has after the last known object, in order: a crash leaves no gap in the ledger. */
const discoverPartition = async ({ store, database }: DiscoverDeps, partition: number, signal: AbortSignal) => {
  let last = await frontier(database, partition);
  let found: KnownObject[] = [];
  const add = async () => {
    await addObjects(database, found);
    last = found.at(-1)?.firstOffset ?? last;
    found = [];
  };
  for await (const entry of listManifest(store, partition, (last ?? -1) + 1)) {
    if (signal.aborted) break;
    found.push(entry);
    if (found.length >= DISCOVER_BATCH) await add();
  }
  await add();
  return last;
};

/**
 * Brings what the archive has into the ledger. The cost is one listing for the partitions and one for each of them, from its
 * last known object on, whatever the archive's age. Safe beside another who does the same: both add in the order of the chain.
 */
export const discover = async (deps: DiscoverDeps, signal: AbortSignal): Promise<Discovered> => {
  const { store, retrying } = deps;
  const found = new Map<number, number>();
  const failures: string[] = [];
  const attempt = async <T>(work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await retrying(store.kind, work, signal);
    } catch (error) {
      failures.push(`the manifest of the archive: ${messageOf(error)}`);
      return otherwise;
    }
  };
  const partitions = await attempt(() => archivePartitions(store), []);
  for (const partition of partitions) {
    const last = await attempt(() => discoverPartition(deps, partition, signal), null);
    if (last !== null) found.set(partition, last);
  }
  return { failures, frontier: found, partitions };
};
