import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cassandraOptions, dropKeyspaces } from '../../../test/fixtures/cassandra.ts';
import { freshKeyspace } from '../../../test/servers/fresh.ts';
import { testServer } from '../../../test/servers/servers.ts';
import { openCassandraPinStore } from './cassandra.ts';
import { pinRow } from './contract-rows.ts';
import { openCqlSession } from './cql-session.ts';
import type { PinRow, PinStore } from './pin-store.ts';
import { openSqlitePinStore } from './sqlite.ts';

const TIMEOUT_MS = 120_000;
const DAY_MICROS = 86_400_000_000;
const NOW_MICROS = 1_795_458_000_123_457;
const CATEGORIES = ['art', 'travel', null];

/** Rows of a table as `key → the pin's title`, which tells versions apart. */
type Table = ReadonlyMap<string, string | null>;
type Tables = { readonly byDay: Table; readonly top: Table };

/** What the tables should hold, from the rows that should stand. */
const expected = (rows: Iterable<PinRow>): Tables => {
  const [byDay, top] = [new Map<string, string | null>(), new Map<string, string | null>()];
  for (const row of rows) {
    const category = row.category ?? '(none)';
    const day = new Date(row.receivedAtMicros / 1000).toISOString().slice(0, 10);
    byDay.set([category, day, row.receivedAtMicros, row.uniqueId].join(), row.title);
    if (row.followerCount !== null) top.set([category, row.followerCount, row.uniqueId].join(), row.title);
  }
  return { byDay, top };
};

/** Versions of some pins that wander between categories, days and counts. */
const versionsOf = (ids: number, each: number): readonly PinRow[] =>
  Array.from({ length: ids }, () => crypto.randomUUID()).flatMap((uniqueId, i) =>
    Array.from({ length: each }, (_, n) => {
      const micros = NOW_MICROS + n * DAY_MICROS + i;
      return pinRow({
        uniqueId,
        category: CATEGORIES[(i + n) % 3] ?? null,
        followerCount: (i + n) % 4 === 0 ? null : BigInt((i * 7 + n) % 5),
        receivedAtMicros: micros,
        writeTimestamp: micros,
        title: `version ${n}`,
      });
    }),
  );

const newestOf = (rows: readonly PinRow[]): ReadonlyMap<string, PinRow> => {
  const newest = new Map<string, PinRow>();
  for (const row of rows) {
    const held = newest.get(row.uniqueId);
    if (held === undefined || held.writeTimestamp < row.writeTimestamp) newest.set(row.uniqueId, row);
  }
  return newest;
};

/** One call has an id once: as the cleaner folds an object. */
const callsOf = (rows: readonly PinRow[], size: number): readonly (readonly PinRow[])[] => {
  const calls: PinRow[][] = [];
  for (const row of rows) {
    const last = calls.at(-1);
    if (last === undefined || last.length >= size || last.some((r) => r.uniqueId === row.uniqueId)) calls.push([row]);
    else last.push(row);
  }
  return calls;
};

const shuffled = <T>(items: readonly T[], seed: number): readonly T[] => {
  let state = seed;
  const next = () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state;
  };
  return items
    .map((item) => [next(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item);
};

const suite = (open: () => PinStore, read: () => Promise<Tables>) => {
  let store: PinStore;
  beforeAll(async () => {
    store = open();
    await store.migrate();
  }, TIMEOUT_MS);
  afterAll(() => store.close());

  test(
    'after updates in any order and replays each pin stands once, where its newest version belongs',
    async () => {
      const versions = versionsOf(40, 4);
      for (const order of [shuffled(versions, 1), versions, shuffled(versions, 2)]) {
        for (const rows of callsOf(order, 25)) await store.upsert(rows);
      }
      expect(await read()).toEqual(expected(newestOf(versions).values()));
    },
    TIMEOUT_MS,
  );

  test(
    'a rebuild by other rules moves rows, and a sweep takes away what is in no object',
    async () => {
      const all: PinRow[] = [];
      for await (const some of store.versions()) {
        for (const { uniqueId } of some) all.push((await store.get(uniqueId)) as PinRow);
      }
      const kept = all.slice(0, 30).map((row) => ({ ...row, category: 'by better rules', followerCount: 9n }));
      await store.upsert(kept, 1);
      await store.sweep(1);
      expect(await read()).toEqual(expected(kept));
    },
    TIMEOUT_MS,
  );
};

type Row = Readonly<Record<string, unknown>>;

const tablesFrom = (byDay: readonly Row[], top: readonly Row[]): Tables => ({
  byDay: new Map(
    byDay.map((r) => [[r.category, r.day, r.received_at_micros, r.unique_id].map(String).join(), r.title as string]),
  ),
  top: new Map(top.map((r) => [[r.category, r.follower_count, r.unique_id].map(String).join(), r.title as string])),
});

describe('the embedded store', () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-tables-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  let store: PinStore;
  const open = () => {
    store = openSqlitePinStore({ dir, keyspace: 'pinkeyspace', catalog: 'cassandra' });
    return store;
  };
  const rowsOf = async (table: string): Promise<readonly Row[]> => {
    const { columns, rows } = await store.query(`SELECT * FROM cassandra.pinkeyspace.${table}`, 1000);
    return rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
  };
  suite(open, async () => tablesFrom(await rowsOf('pins_by_category_day'), await rowsOf('top_pins_by_category')));
});

const server = await testServer('cassandra');

describe.skipIf('skip' in server)('a real Cassandra', () => {
  const keyspace = freshKeyspace();
  const options = { ...cassandraOptions(server.settings, keyspace), queryTables: true };
  const session = openCqlSession(options);
  afterAll(async () => {
    await session.close();
    await dropKeyspaces(server.settings, [keyspace]);
  }, TIMEOUT_MS);
  const rowsOf = async (table: string): Promise<readonly Row[]> => {
    const found = await session.run((client) => client.execute(`SELECT * FROM ${keyspace}.${table}`));
    return found.rows as unknown as readonly Row[];
  };
  suite(
    () => openCassandraPinStore(options),
    async () => tablesFrom(await rowsOf('pins_by_category_day'), await rowsOf('top_pins_by_category')),
  );
});
