import { type Client, types } from 'cassandra-driver';
import { cellTimestamp } from './cql-rows.ts';
import type { CqlSession } from './cql-session.ts';
import { eachOf } from './each-of.ts';
import type { PinRow } from './pin-store.ts';

/** Ids of one look at what `userposts` holds: one request's coordinator asks so many rows at once. */
const READ_IDS = 30;
/** Statements of one batch, all of one partition; each is well under a kilobyte. */
const BATCH_STATEMENTS = 50;
/** Requests under way at once. */
const MAX_IN_FLIGHT = 32;

/** What the keys of the query tables are made of. */
export type TableKeys = {
  readonly uniqueId: string;
  readonly category: string | null;
  readonly receivedAtMicros: number;
  readonly followerCount: bigint | null;
};

/** A row of `userposts` as it stands, as far as the query tables follow it. */
type Held = TableKeys & { readonly writeTimestamp: number; readonly generation: number };

type Statement = { readonly partition: string; readonly query: string; readonly params: readonly unknown[] };

/** One query table: the row's key in it (null: it has none there), and the statements that write and remove it. */
type Table = {
  readonly key: (keys: TableKeys) => readonly unknown[] | null;
  /** How many of the key's columns make the partition. */
  readonly partition: number;
  readonly insert: string;
  readonly values: (row: PinRow) => readonly unknown[];
  readonly remove: string;
};

const dayOf = (receivedAtMicros: number): string =>
  new Date(Math.floor(receivedAtMicros / 1000)).toISOString().slice(0, 10);

/** Stands for a missing category, as a key cannot be empty. */
const NO_CATEGORY = '(none)';
/** Characters of the longest category that is one: a key takes 64 KiB at most, and nobody asks for such. */
const CATEGORY_MAX = 1000;

/** The key of a row with that category; null when it has no place in the tables. */
const withCategory = (category: string | null, ...rest: readonly unknown[]): readonly unknown[] | null =>
  (category?.length ?? 0) > CATEGORY_MAX ? null : [category || NO_CATEGORY, ...rest];

const tablesOf = (keyspace: string): readonly Table[] => [
  {
    key: (k) => withCategory(k.category, dayOf(k.receivedAtMicros), BigInt(k.receivedAtMicros), k.uniqueId),
    partition: 2,
    insert: `INSERT INTO ${keyspace}.pins_by_category_day (category, day, received_at_micros, unique_id, title, poster_name, follower_count, is_error) VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`,
    values: (row) => [row.title, row.posterName, row.followerCount, row.isError],
    remove: `DELETE FROM ${keyspace}.pins_by_category_day USING TIMESTAMP ? WHERE category = ? AND day = ? AND received_at_micros = ? AND unique_id = ?`,
  },
  {
    key: (k) => (k.followerCount === null ? null : withCategory(k.category, k.followerCount, k.uniqueId)),
    partition: 1,
    insert: `INSERT INTO ${keyspace}.top_pins_by_category (category, follower_count, unique_id, title, poster_name, received_at_micros) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`,
    values: (row) => [row.title, row.posterName, BigInt(row.receivedAtMicros)],
    remove: `DELETE FROM ${keyspace}.top_pins_by_category USING TIMESTAMP ? WHERE category = ? AND follower_count = ? AND unique_id = ?`,
  },
];

const partitionOf = ({ remove, partition }: Table, key: readonly unknown[]) =>
  `${remove} ${key.slice(0, partition).join('\0')}`;

const removal = (table: Table, key: readonly unknown[], at: bigint): Statement => ({
  partition: partitionOf(table, key),
  query: table.remove,
  params: [at, ...key],
});

const sameKey = (a: readonly unknown[], b: readonly unknown[]) => a.every((part, i) => part === b[i]);

/**
 * What follows from writing `row` while `held` stands in `userposts`: its place in each table, and the place it leaves. Nothing, if
 * `held` is newer. All at the row's own timestamp, so that whoever comes late with an older version writes under the removal.
 */
const movesOf = (
  tables: readonly Table[],
  row: PinRow,
  generation: number,
  held: Held | undefined,
): readonly Statement[] => {
  const isOlder =
    held !== undefined &&
    (row.writeTimestamp < held.writeTimestamp ||
      (row.writeTimestamp === held.writeTimestamp && generation < held.generation));
  if (isOlder) return [];
  const at = cellTimestamp(row.writeTimestamp, generation);
  return tables.flatMap((table) => {
    const [now, before] = [table.key(row), held === undefined ? null : table.key(held)];
    const moves: Statement[] = [];
    if (before !== null && (now === null || !sameKey(now, before))) moves.push(removal(table, before, at));
    if (now !== null) {
      const params = [...now, ...table.values(row), at];
      moves.push({ partition: partitionOf(table, now), query: table.insert, params });
    }
    return moves;
  });
};

const chunksOf = <T>(items: readonly T[], size: number): readonly (readonly T[])[] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

/** Statements of one partition together: one replica applies such a batch in one go. */
const batchesOf = (statements: readonly Statement[]): readonly (readonly Statement[])[] =>
  [...Map.groupBy(statements, ({ partition }) => partition).values()].flatMap((some) =>
    chunksOf(some, BATCH_STATEMENTS),
  );

const heldRow = (row: types.Row): Held => ({
  uniqueId: String(row.unique_id),
  category: row.category as string | null,
  receivedAtMicros: Number(row.received_at_micros),
  followerCount: row.follower_count as bigint | null,
  writeTimestamp: Number(row.write_ts),
  generation: (row.generation as number | null) ?? 0,
});

export type CqlTables = {
  /** Brings the query tables to what `userposts` will be with these rows. Comes before them: a crash in between is done over. */
  readonly follow: (rows: readonly PinRow[], generation: number) => Promise<void>;
  /** Removes the rows of pins that are about to leave `userposts`. */
  readonly forget: (uniqueIds: readonly string[]) => Promise<void>;
};

/**
 * The tables beside `userposts` that answer one question each. Each version of a pin has one row in each of them, so an update that
 * moves it to another category, day or count has to take the old row away: what stands in `userposts` says where that is.
 */
export const cqlTables = (session: CqlSession, keyspace: string): CqlTables => {
  const tables = tablesOf(keyspace);
  const select = `SELECT unique_id, category, received_at_micros, follower_count, write_ts, generation FROM ${keyspace}.userposts WHERE unique_id IN ?`;
  const options = { prepare: true, isIdempotent: true };

  const heldOf = async (client: Client, ids: readonly string[]): Promise<ReadonlyMap<string, Held>> => {
    const held = new Map<string, Held>();
    await eachOf(chunksOf(ids, READ_IDS), MAX_IN_FLIGHT, async (some) => {
      const found = await client.execute(select, [some.map((id) => types.Uuid.fromString(id))], options);
      for (const row of found.rows) held.set(String(row.unique_id), heldRow(row));
    });
    return held;
  };

  const send = (client: Client, statements: readonly Statement[]) =>
    eachOf(batchesOf(statements), MAX_IN_FLIGHT, (some) =>
      client.batch(
        some.map(({ query, params }) => ({ query, params: [...params] })),
        { ...options, logged: false },
      ),
    );

  return {
    follow: (rows, generation) =>
      session.run(async (client) => {
        const held = await heldOf(
          client,
          rows.map((row) => row.uniqueId),
        );
        await send(
          client,
          rows.flatMap((row) => movesOf(tables, row, generation, held.get(row.uniqueId))),
        );
      }),
    forget: (uniqueIds) =>
      session.run(async (client) => {
        const held = await heldOf(client, uniqueIds);
        const statements = [...held.values()].flatMap((row) =>
          tables.flatMap((table) => {
            const key = table.key(row);
            return key === null ? [] : removal(table, key, cellTimestamp(row.writeTimestamp, row.generation));
          }),
        );
        await send(client, statements);
      }),
  };
};
