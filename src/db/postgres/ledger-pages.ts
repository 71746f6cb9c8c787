import { and, asc, eq, lt, ne, not, type SQL, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { type Db, type KnownObject, objectColumns, ofObject } from './ledger.ts';
import { archiveObjectStores, archiveObjects } from './schema.ts';

/**
 * The objects a run is to do, page by page. A page costs what it goes over, from its start to its last object, wherever it
 * stands and however long the ledger is: all pages together go over the ledger once. All of them throw PinflowError
 * `postgres_unavailable` or `query`.
 */

/** Where a page of objects begins: after this one, in the order of partition and first offset. */
export type Cursor = Pick<KnownObject, 'partition' | 'firstOffset'>;

/** As a row, which the primary key can be entered at; `partition > p or ...` is looked for from the start of the chains. */
export const afterCursor = ({ partition, firstOffset }: Cursor): SQL =>
  sql`(${archiveObjects.partition}, ${archiveObjects.firstOffset}) > (${partition}::int, ${firstOffset}::bigint)`;

/**
 * The store has a row of progress with the object of the outer query, one that is `such` where that is given. The OFFSET keeps
 * the planner from making a join of it, which reads both tables from their start: so it is asked object by object.
 */
export const hasProgress = (store: string, such?: SQL): SQL =>
  sql`exists (select 1 from ${archiveObjectStores} where ${and(ofObject, eq(archiveObjectStores.store, store), such)} offset 0)`;

/**
 * Where no statistics are, as in the embedded Postgres, `partition = p` is taken for a handful of rows: all are then read and
 * sorted for each page. A second row is not.
 */
const inChainsUpTo = (partition: number): SQL =>
  sql`(${archiveObjects.partition}, ${archiveObjects.firstOffset}) < (${partition + 1}::int, 0::bigint)`;

const inOrder = [asc(archiveObjects.partition), asc(archiveObjects.firstOffset)] as const;

/** The first so many of the objects for which all of `conditions` hold. */
const pageOf = ({ db }: Db, limit: number, ...conditions: readonly SQL[]): Promise<readonly KnownObject[]> =>
  asked(
    db
      .select(objectColumns)
      .from(archiveObjects)
      .where(and(...conditions))
      .orderBy(...inOrder)
      .limit(limit),
  );

export type PendingQuery = {
  readonly partition: number;
  readonly store: string;
  /** Only objects whose first offset is above this. */
  readonly after: number;
  readonly limit: number;
};

/** Objects of a partition a store does not have yet, or is to try again, in the order of the chain. */
export const pendingObjects = (
  db: Db,
  { partition, store, after, limit }: PendingQuery,
): Promise<readonly KnownObject[]> => {
  const handled = hasProgress(store, ne(archiveObjectStores.status, 'retry'));
  return pageOf(db, limit, afterCursor({ partition, firstOffset: after }), inChainsUpTo(partition), not(handled));
};

/** Objects of a store that `forgetRejected` asked for again, in the order of the chain. */
export const retriedObjects = (
  { db }: Db,
  store: string,
  after: Cursor,
  limit: number,
): Promise<readonly KnownObject[]> =>
  asked(
    db
      .select(objectColumns)
      .from(archiveObjectStores)
      .innerJoin(archiveObjects, ofObject)
      // Literally, as the partial index has it: a parameter would not be matched with it.
      .where(
        and(eq(archiveObjectStores.store, store), afterCursor(after), sql`${archiveObjectStores.status} = 'retry'`),
      )
      .orderBy(...inOrder)
      .limit(limit),
  );

export type StaleQuery = {
  readonly store: string;
  readonly generation: number;
  readonly after: Cursor;
  readonly limit: number;
};

/** Objects a store has at an older generation, in the order of the chains. */
export const staleObjects = (
  db: Db,
  { store, generation, after, limit }: StaleQuery,
): Promise<readonly KnownObject[]> =>
  pageOf(db, limit, afterCursor(after), hasProgress(store, lt(archiveObjectStores.generation, generation)));

/** Objects whose first pin was received within these hours, both included; as the key has them: `2026-11-23/hour=18`. */
export type HourRange = { readonly fromHour: string; readonly toHour: string };

const HOUR_AT = 'pins/dt='.length + 1;
const HOUR_LENGTH = '2026-11-23/hour=18'.length;

/** Byte order: the locale's own may pass over punctuation. */
const inHours = ({ fromHour, toHour }: HourRange) =>
  sql`substr(${archiveObjects.key}, ${HOUR_AT}::int, ${HOUR_LENGTH}::int) collate "C" between ${fromHour} and ${toHour}`;

/**
 * The same, of which the planner knows nothing and so takes half of the rows to match. It takes a `between` for one in 200, and
 * then reads all rows there are to sort those that match, for each page.
 */
const asHalf = (condition: SQL): SQL => sql`coalesce(${condition}, false)`;

export const objectsOfHours = (
  db: Db,
  range: HourRange,
  after: Cursor,
  limit: number,
): Promise<readonly KnownObject[]> => pageOf(db, limit, afterCursor(after), asHalf(inHours(range)));

export type ObjectTotals = { readonly objects: number; readonly pins: number; readonly bytes: number };

/** How much the ledger knows of. @param range (Default: all) */
export const objectTotals = async ({ db }: Db, range: HourRange | null): Promise<ObjectTotals> => {
  const [totals] = await asked(
    db
      .select({
        objects: sql<number>`count(*)::float8`,
        pins: sql<number>`coalesce(sum(${archiveObjects.pins}), 0)::float8`,
        bytes: sql<number>`coalesce(sum(${archiveObjects.bytes}), 0)::float8`,
      })
      .from(archiveObjects)
      .where(range === null ? undefined : inHours(range)),
  );
  return totals ?? { objects: 0, pins: 0, bytes: 0 };
};
