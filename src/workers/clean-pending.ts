import type { KnownObject } from '../db/postgres/ledger.ts';
import {
  type Cursor,
  type HourRange,
  objectsOfHours,
  pendingObjects,
  retriedObjects,
  staleObjects,
} from '../db/postgres/ledger-pages.ts';
import { type DiscoverDeps, discover } from './clean-discover.ts';

/** Objects asked for at a time, so that memory does not grow with what is left to do. */
const PENDING_PAGE = 200;
/** Objects of a rebuild between two looks for new ones: so many are read in some seconds, and new pins wait no longer. */
const REBUILD_PAGE = 20;

const START: Cursor = { partition: -1, firstOffset: -1 };

export type PendingQuery = {
  readonly store: string;
  /** First offset by partition up to which every store is known to have everything: what is below is not asked for. */
  readonly floor: ReadonlyMap<number, number>;
  readonly partitions: readonly number[];
  /** Objects at an older generation than this are to be done anew, after what is new; 0: no rebuild. */
  readonly rebuild: number;
  readonly signal: AbortSignal;
};

/** Page by page of what `ask` answers. @param start (Default: before all) */
async function* pages(ask: (after: Cursor) => Promise<readonly KnownObject[]>, start = START) {
  let after = start;
  let page: readonly KnownObject[] = [];
  do {
    page = await ask(after);
    yield* page;
    after = page.at(-1) ?? after;
  } while (page.length === PENDING_PAGE);
}

type FreshQuery = Omit<PendingQuery, 'rebuild'>;

/** Partition by partition in the order of the chain. */
async function* fresh(deps: DiscoverDeps, { store, floor, partitions, signal }: FreshQuery) {
  const { database, retrying } = deps;
  for (const partition of partitions) {
    const ask = ({ firstOffset: after }: Cursor) =>
      retrying('postgres', () => pendingObjects(database, { partition, store, after, limit: PENDING_PAGE }), signal);
    yield* pages(ask, { partition, firstOffset: floor.get(partition) ?? -1 });
  }
}

/** Page by page of what stands at an older generation; before each page what came new, so that new pins do not wait for the rebuild. */
async function* stale(deps: DiscoverDeps, { store, rebuild: generation, signal, ...query }: PendingQuery) {
  const { database, retrying } = deps;
  let { floor } = query;
  let page: readonly KnownObject[] = [];
  let after = START;
  do {
    const found = await discover(deps, signal);
    yield* fresh(deps, { store, signal, floor, partitions: found.partitions });
    floor = new Map([...floor, ...found.frontier]);
    const pageQuery = { store, generation, after, limit: REBUILD_PAGE };
    page = await retrying('postgres', () => staleObjects(database, pageQuery), signal);
    yield* page;
    after = page.at(-1) ?? after;
  } while (page.length === REBUILD_PAGE);
}

/** What a store does not have yet: first what someone asked for again, then what is new, then what a rebuild has left. */
export async function* pending(deps: DiscoverDeps, query: PendingQuery): AsyncGenerator<KnownObject, void> {
  const { database, retrying } = deps;
  const { store, signal } = query;
  yield* pages((after) => retrying('postgres', () => retriedObjects(database, store, after, PENDING_PAGE), signal));
  yield* fresh(deps, query);
  if (query.rebuild > 0) yield* stale(deps, query);
}

/** All objects of some hours, whether or not a store has them. */
export const ofHours = (
  { database, retrying }: DiscoverDeps,
  range: HourRange,
  signal: AbortSignal,
): AsyncGenerator<KnownObject, void> =>
  pages((after) => retrying('postgres', () => objectsOfHours(database, range, after, PENDING_PAGE), signal));
