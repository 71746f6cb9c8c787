import { and, eq, type SQL, sql } from 'drizzle-orm';
import { plainArray } from './array-text.ts';
import { asked } from './errors.ts';
import { type Db, ofObject } from './ledger.ts';
import { afterCursor, type Cursor, hasProgress } from './ledger-pages.ts';
import { archiveObjectStores, archiveObjects } from './schema.ts';

/**
 * Objects that one look goes over again, whatever the floor: some milliseconds. Half a million, a year of one a minute, take 500
 * looks: three quarters of an hour at one every five seconds, two hours at one every fifteen.
 */
const RECHECK_OBJECTS = 1000;

const START: Cursor = { partition: -1, firstOffset: -1 };

/** What is remembered of a store between two looks. */
type Place = {
  /** First offset by partition up to which the store was seen to have everything. */
  readonly floor: ReadonlyMap<number, number>;
  /** Where going over objects again goes on. */
  readonly after: Cursor;
};

const NOWHERE: Place = { floor: new Map(), after: START };

/** One to be retried is a row of progress, see {@link retriedSeconds}. */
const lackedBy = (store: string): SQL => sql`not ${hasProgress(store)}`;

const ageSeconds = (seenAt: SQL | typeof archiveObjects.seenAt) =>
  sql`extract(epoch from clock_timestamp() - ${seenAt})::float8`;

/** The chain of a partition, as a store has it above its floor. */
type ChainSight = {
  readonly partition: number;
  /** First offset of the newest object; null: there is none. */
  readonly frontier: number | null;
  /** First offset of the first object the store lacks, and since when it is known; null: it has all. */
  readonly lacking: number | null;
  readonly seconds: number | null;
};

/** In one statement, so of one moment. A floor above the frontier is not of this ledger (any more): it does not count. */
const lookAbove = ({ db }: Db, store: string, floor: Place['floor']): Promise<readonly ChainSight[]> => {
  const { partition, firstOffset, seenAt } = archiveObjects;
  return asked(
    db.execute<ChainSight>(sql`
      select chain.partition, newest.frontier::float8 as frontier, pending.first_offset::float8 as lacking, pending.seconds
      from generate_series(0, (select max(${partition}) from ${archiveObjects})) as chain (partition)
      cross join lateral (
        select max(${firstOffset}) as frontier from ${archiveObjects} where ${partition} = chain.partition
      ) as newest
      left join unnest(${plainArray([...floor.keys()])}::int[], ${plainArray([...floor.values()])}::bigint[])
        as known (partition, floor) on known.partition = chain.partition and known.floor <= newest.frontier
      left join lateral (
        select ${firstOffset}, ${ageSeconds(seenAt)} as seconds
        from ${archiveObjects}
        where ${partition} = chain.partition and ${firstOffset} > coalesce(known.floor, -1) and ${lackedBy(store)}
        order by ${firstOffset} limit 1
      ) as pending on true`),
  );
};

/** Up to the object before the first that is lacking, or to the newest. */
const floorOf = (chains: readonly ChainSight[]): Place['floor'] =>
  new Map(
    chains.flatMap(({ partition, frontier, lacking }) => {
      const last = lacking === null ? frontier : lacking - 1;
      return last === null ? [] : [[partition, last] as const];
    }),
  );

/** Some objects of a partition, looked at again. */
type Recheck = {
  readonly partition: number;
  readonly objects: number;
  /** First offset of the last of them. */
  readonly last: number;
  /** First offset of the first that the store lacks, or null. */
  readonly lacking: number | null;
};

type RecheckQuery = { readonly store: string; readonly after: Cursor; readonly limit: number };

const lookAgain = ({ db }: Db, { store, after, limit }: RecheckQuery): Promise<readonly Recheck[]> => {
  const { partition, firstOffset } = archiveObjects;
  return asked(
    db.execute<Recheck>(sql`
      select partition, count(*)::int as objects, max(first_offset)::float8 as last,
        min(first_offset) filter (where is_lacking)::float8 as lacking
      from (
        select ${partition}, ${firstOffset}, ${lackedBy(store)} as is_lacking
        from ${archiveObjects}
        where ${afterCursor(after)}
        order by ${partition}, ${firstOffset} limit ${limit}
      ) as page
      group by partition order by partition`),
  );
};

/** From the start again when there were fewer than asked for. */
const cursorAfter = (page: readonly Recheck[], limit: number): Cursor => {
  const last = page.at(-1);
  const objects = page.reduce((sum, part) => sum + part.objects, 0);
  return last === undefined || objects < limit ? START : { partition: last.partition, firstOffset: last.last };
};

/** The floors that hold: none that something of this page is lacking below. */
const holding = (floor: Place['floor'], page: readonly Recheck[]): Place['floor'] => {
  const isBelow = ({ partition, lacking }: Recheck) => lacking !== null && lacking <= (floor.get(partition) ?? -1);
  const broken = new Set(page.filter(isBelow).map(({ partition }) => partition));
  return new Map([...floor].filter(([partition]) => !broken.has(partition)));
};

/** How long the oldest object has been known that is asked for again, seconds; null: none is. */
const retriedSeconds = async ({ db }: Db, store: string): Promise<number | null> => {
  const seconds = sql<number | null>`${ageSeconds(sql`min(${archiveObjects.seenAt})`)}`;
  const [retried] = await asked(
    db
      .select({ seconds })
      .from(archiveObjectStores)
      .innerJoin(archiveObjects, ofObject)
      // Literally, as the partial index has it: a parameter would not be matched with it.
      .where(and(eq(archiveObjectStores.store, store), sql`${archiveObjectStores.status} = 'retry'`)),
  );
  return retried?.seconds ?? null;
};

/** Of one store; 0 when it has all. @throws PinflowError `postgres_unavailable` or `query` */
export type OldestPendingSeconds = (store: string) => Promise<number>;

/**
 * How long the oldest object that a store does not have has been known, seconds. In a chain what comes first was seen first.
 * To be kept from look to look: as a batch run does, it remembers a floor by partition, here for each store, and asks from there
 * on. The first look at a store goes over the whole ledger; a later one over what the store got since and `recheckObjects`.
 *
 * A floor holds because a chain grows at its end only, in the ledger too, and because a row of progress stays, at whatever
 * generation: neither a backfill nor a rebuild takes one away. What may be lacking below it, and how it is seen all the same:
 * - objects that are to be retried: each look asks for them by their own index
 * - a store or a partition that is new: it has no floor yet
 * - a ledger that was emptied, or came from a backup: its chain ends below the floor, which does not count then
 * - rows that were taken out by hand, or put in: each look goes over the next `recheckObjects`, round and round, and forgets the floor
 *   of a partition with one that is lacking. A ledger of fewer objects is gone over whole in each look.
 *
 * @param recheckObjects (Default: {@link RECHECK_OBJECTS})
 */
export const createOldestPending = (database: Db, recheckObjects = RECHECK_OBJECTS): OldestPendingSeconds => {
  const places = new Map<string, Place>();
  return async (store) => {
    const { floor, after } = places.get(store) ?? NOWHERE;
    const page = await lookAgain(database, { store, after, limit: recheckObjects });
    const chains = await lookAbove(database, store, holding(floor, page));
    places.set(store, { floor: floorOf(chains), after: cursorAfter(page, recheckObjects) });
    const retried = await retriedSeconds(database, store);
    return Math.max(0, retried ?? 0, ...chains.map(({ seconds }) => seconds ?? 0));
  };
};
