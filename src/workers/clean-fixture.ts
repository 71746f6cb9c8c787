import { afterAll, afterEach, beforeAll, beforeEach, setDefaultTimeout } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ArchiveEntry, putManifest } from '../blob/archive.ts';
import { archiveLine } from '../blob/archive-line.ts';
import { type ArchivedLine, type ArchiveText, encodeArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import { openFsBlobStore } from '../blob/fs.ts';
import { systemClock } from '../clock.ts';
import type { PinRow, PinStore } from '../db/pin-store/pin-store.ts';
import { openSqlitePinStore } from '../db/pin-store/sqlite.ts';
import { startEmbeddedPostgres } from '../db/postgres/embedded.ts';
import { migratePostgres } from '../db/postgres/migrate.ts';
import { type Database, openPostgres } from '../db/postgres/open.ts';
import { type DeadLetter, letterKey } from '../log/dlq.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { formatMicros } from '../pin/timestamp.ts';
import { type CleanerDeps, createCleaner } from './cleaner.ts';

/** What the tests of the batch layer share: real engines in temporary folders, and an archive as the archiver writes it. */
/** Also for a test as a whole: the disk may be busy with the tests beside it. */
export const SET_UP_MS = 60_000;
export const NOON_MICROS = Date.parse('2026-11-23T12:00:00Z') * 1000;

const logger = createLogger('silent', 'test');

export const tempFolder = () => mkdtemp(join(tmpdir(), 'pinflow-clean-'));

export type TestDatabase = {
  readonly url: string;
  readonly database: Database;
  /** Empties the ledger. */
  readonly reset: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** Lines as an object has them, each a run of its own. */
export const textOf = (partition: number, lines: readonly ArchivedLine[]): ArchiveText => ({
  partition,
  runs: lines.map(({ offset }) => [offset, offset] as const),
  pins: lines.length,
  text: Buffer.concat(lines.flatMap(({ line }) => [line, Buffer.from('\n')])),
});

export const connectTo = (url: string): Database => openPostgres({ url, logger, applicationName: 'clean-test' });

export const startDatabase = async (): Promise<TestDatabase> => {
  const dir = await tempFolder();
  const server = await startEmbeddedPostgres({ dir: join(dir, 'postgres'), port: 0, logger });
  const database = connectTo(server.url);
  await migratePostgres(database);
  return {
    url: server.url,
    database,
    reset: async () => {
      const { sql } = database;
      await Promise.all([
        sql`delete from leases`,
        sql`delete from batch_schedules`,
        sql`delete from batch_alerts`,
        sql`delete from batch_generations`,
        sql`delete from batch_runs`,
        sql`delete from archive_objects`,
        sql`delete from archive_object_stores`,
      ]);
    },
    close: async () => {
      await database.close();
      await server.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

export const idOf = (n: number): string => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

export type PinOptions = { readonly title?: string | null; readonly receivedAtMicros?: number };

/** A pin without errors, as the edge writes it to the log; its id comes from `n`. */
export const pinLine = (n: number, { title = `title ${n}`, receivedAtMicros = NOON_MICROS + n }: PinOptions = {}) =>
  JSON.stringify({
    category: 'mens-fashion',
    index: n,
    unique_id: idOf(n),
    title,
    description: 'No worries',
    follower_count: '5k',
    tag_list: 'one, two',
    is_image_or_video: 'image',
    image_src: 'https://i.pinimg.com/a.jpg',
    downloaded: 1,
    save_location: 'Local save in /data/mens-fashion',
    received_at: formatMicros(receivedAtMicros),
  });

export const pinLines = (from: number, count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => pinLine(from + i));

/** Puts one object into the archive: the records of offsets from `firstOffset` on. */
export const putObject = async (
  store: BlobStore,
  partition: number,
  firstOffset: number,
  records: readonly (string | Uint8Array)[],
): Promise<ArchiveEntry> => {
  const lines = records.flatMap((record) => [archiveLine(Buffer.from(record), NOON_MICROS / 1000), Buffer.from('\n')]);
  const { entry, bytes, metadata } = await encodeArchiveObject({
    partition,
    runs: [[firstOffset, firstOffset + records.length - 1]],
    pins: records.length,
    text: Buffer.concat(lines),
  });
  await store.put(entry.key, bytes, { metadata, ifAbsent: true });
  await putManifest(store, entry);
  return entry;
};

export type Workshop = {
  readonly dir: string;
  readonly store: BlobStore;
  readonly pinStore: PinStore;
  /** A second embedded store, under another name. */
  readonly secondStore: PinStore;
  /** Dead letters by their id: one sent twice is one. */
  readonly letters: ReadonlyMap<string, DeadLetter>;
  /** How many were sent. */
  readonly sent: () => number;
  readonly deps: (changes?: Partial<CleanerDeps>) => CleanerDeps;
  readonly cleaner: (changes?: Partial<CleanerDeps>) => ReturnType<typeof createCleaner>;
  readonly close: () => Promise<void>;
};

const openStore = (dir: string) => openSqlitePinStore({ dir, keyspace: 'pinkeyspace', catalog: 'cassandra' });

/** @param folder of another workshop, to work beside it (Default: a new one) */
export const openWorkshop = async (database: Database, folder?: string): Promise<Workshop> => {
  const dir = folder ?? (await tempFolder());
  const store = openFsBlobStore({ dir: join(dir, 'archive') });
  const pinStore = openStore(dir);
  const secondStore: PinStore = { ...openStore(join(dir, 'second')), name: 'scylla' };
  const letters = new Map<string, DeadLetter>();
  let sent = 0;
  const deps: Workshop['deps'] = (changes) => ({
    store,
    pinStores: [pinStore],
    database,
    sendDeadLetters: async (some) => {
      sent += some.length;
      for (const letter of some) letters.set(letterKey(letter), letter);
    },
    metrics: createMetrics(),
    logger,
    clock: systemClock,
    status: () => {},
    schedule: { cron: 'off', timezone: 'UTC' },
    timeoutSeconds: 60,
    holder: 'test',
    ...changes,
  });
  return {
    dir,
    store,
    pinStore,
    secondStore,
    letters,
    sent: () => sent,
    deps,
    cleaner: (changes) => createCleaner(deps(changes)),
    close: async () => {
      await Promise.all([pinStore.close(), secondStore.close(), store.close()]);
      await rm(dir, { recursive: true, force: true });
    },
  };
};

/** The whole table, by id. */
export const tableOf = async (pinStore: PinStore): Promise<ReadonlyMap<string, PinRow>> => {
  const rows = new Map<string, PinRow>();
  for await (const versions of pinStore.versions()) {
    for (const { uniqueId } of versions) {
      const row = await pinStore.get(uniqueId);
      if (row !== null) rows.set(uniqueId, row);
    }
  }
  return new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)));
};

/**
 * The engines of a test file: one Postgres for all of its tests, a new workshop for each.
 * @param opened is told of them before each test
 */
export const useWorkshop = (
  opened: (engines: { readonly postgres: TestDatabase; readonly shop: Workshop }) => void,
): void => {
  let postgres: TestDatabase;
  let shop: Workshop;
  setDefaultTimeout(SET_UP_MS);
  beforeAll(async () => {
    postgres = await startDatabase();
  });
  afterAll(() => postgres.close());
  beforeEach(async () => {
    await postgres.reset();
    shop = await openWorkshop(postgres.database);
    opened({ postgres, shop });
  });
  afterEach(() => shop.close());
};
