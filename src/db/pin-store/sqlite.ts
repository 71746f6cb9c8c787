import { Database, SQLiteError } from 'bun:sqlite';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, PinflowError } from '../../errors.ts';
import { formatMicros, parseMicros } from '../../pin/timestamp.ts';
import type { PinRow, PinStore, PinVersion } from './pin-store.ts';
import { openSqliteReader } from './sqlite-reader.ts';

export type SqlitePinStoreOptions = {
  /** Folder of the database file; created when missing. */
  readonly dir: string;
  /** Names a query may put before `userposts`, as it would for Trino: `pinkeyspace.`, `cassandra.pinkeyspace.`. */
  readonly keyspace: string;
  readonly catalog: string;
};

const FILE = 'pin-store.sqlite';

/** Longest a statement waits for another process's write, milliseconds: far above the commit of the largest upsert. */
const BUSY_TIMEOUT_MS = 10_000;
/** Page cache of the writer, KiB: ids are random, so the index of some 500,000 ids should fit. */
const CACHE_KIB = 64 * 1024;
/**
 * Pages the write-ahead log grows by before it is folded into the file (64 MiB; SQLite's own 4 MiB costs half the speed: ids are random,
 * so each fold rewrites most of the index), and what is left of the log after it, bytes.
 */
const CHECKPOINT_PAGES = 16_000;
const WAL_KEPT_BYTES = 64 * 1024 * 1024;
/** Ids in one batch of `versions`: small in memory, and each batch is a short read transaction. */
const VERSIONS_BATCH = 5000;

/** Rows looked at in one transaction of a sweep: other writers wait no longer than for an upsert. */
const SWEEP_ROWS = 20_000;

/** Bumped with every change of the schema below; the number stands in the file as `user_version`. */
const SCHEMA_VERSION = 2;
const SCHEMA = `CREATE TABLE IF NOT EXISTS userposts (
  unique_id TEXT NOT NULL PRIMARY KEY,
  received_at TEXT NOT NULL,
  category TEXT,
  index_no INTEGER NOT NULL,
  title TEXT,
  description TEXT,
  follower_count INTEGER,
  tag_list TEXT,
  is_image_or_video TEXT,
  image_src TEXT,
  downloaded INTEGER NOT NULL,
  save_location TEXT,
  poster_name TEXT,
  is_error INTEGER NOT NULL,
  error_fields TEXT NOT NULL,
  write_ts INTEGER NOT NULL,
  log_partition INTEGER NOT NULL,
  log_offset INTEGER NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0
) STRICT`;

/** What Cassandra needs tables for, answered from `userposts` itself: always consistent, and no cost to the writer. */
const VIEWS = [
  `CREATE VIEW IF NOT EXISTS pins_by_category_day AS SELECT coalesce(nullif(category, ''), '(none)') AS category, substr(received_at, 1, 10) AS day,
     CAST(strftime('%s', received_at) AS INTEGER) * 1000000 + CAST(substr(received_at, 21, 6) AS INTEGER) AS received_at_micros,
     unique_id, title, poster_name, follower_count, is_error FROM userposts`,
  `CREATE VIEW IF NOT EXISTS top_pins_by_category AS SELECT category, follower_count, unique_id, title, poster_name, received_at_micros
     FROM pins_by_category_day WHERE follower_count IS NOT NULL`,
];

type Value = string | number | bigint | null;

const COLUMNS: Readonly<Record<string, (row: PinRow) => Value>> = {
  unique_id: (row) => row.uniqueId,
  received_at: (row) => formatMicros(row.receivedAtMicros),
  category: (row) => row.category,
  index_no: (row) => row.indexNo,
  title: (row) => row.title,
  description: (row) => row.description,
  follower_count: (row) => row.followerCount,
  tag_list: (row) => (row.tagList === null ? null : JSON.stringify(row.tagList)),
  is_image_or_video: (row) => row.isImageOrVideo,
  image_src: (row) => row.imageSrc,
  downloaded: (row) => row.downloaded,
  save_location: (row) => row.saveLocation,
  poster_name: (row) => row.posterName,
  is_error: (row) => (row.isError ? 1 : 0),
  error_fields: (row) => JSON.stringify(row.errorFields),
  write_ts: (row) => BigInt(row.writeTimestamp),
  log_partition: (row) => row.position.partition,
  log_offset: (row) => BigInt(row.position.offset),
};

const NAMES = Object.keys(COLUMNS);
const VALUES = Object.values(COLUMNS);

const UPSERT = `INSERT INTO userposts (${NAMES.join(', ')}, generation) VALUES (${NAMES.map(() => '?').join(', ')}, ?)
  ON CONFLICT (unique_id) DO UPDATE SET ${[...NAMES.slice(1), 'generation']
    .map((name) => `${name} = excluded.${name}`)
    .join(', ')}
  WHERE (excluded.write_ts, excluded.log_offset, excluded.generation)
      > (userposts.write_ts, userposts.log_offset, userposts.generation)`;

const SWEEP = 'DELETE FROM userposts WHERE rowid > ? AND rowid <= ? AND generation < ?';

/** A row as the database gives it, with `safeIntegers`: every integer is a bigint. */
type Stored = {
  readonly unique_id: string;
  readonly received_at: string;
  readonly category: string | null;
  readonly index_no: bigint;
  readonly title: string | null;
  readonly description: string | null;
  readonly follower_count: bigint | null;
  readonly tag_list: string | null;
  readonly is_image_or_video: string | null;
  readonly image_src: string | null;
  readonly downloaded: bigint;
  readonly save_location: string | null;
  readonly poster_name: string | null;
  readonly is_error: bigint;
  readonly error_fields: string;
  readonly write_ts: bigint;
  readonly log_partition: bigint;
  readonly log_offset: bigint;
};

const toPinRow = (stored: Stored): PinRow => ({
  uniqueId: stored.unique_id,
  receivedAtMicros: parseMicros(stored.received_at) ?? 0,
  category: stored.category,
  indexNo: Number(stored.index_no),
  title: stored.title,
  description: stored.description,
  followerCount: stored.follower_count,
  tagList: stored.tag_list === null ? null : (JSON.parse(stored.tag_list) as string[]),
  isImageOrVideo: stored.is_image_or_video,
  imageSrc: stored.image_src,
  downloaded: Number(stored.downloaded),
  saveLocation: stored.save_location,
  posterName: stored.poster_name,
  isError: stored.is_error === 1n,
  errorFields: JSON.parse(stored.error_fields) as string[],
  writeTimestamp: Number(stored.write_ts),
  position: { partition: Number(stored.log_partition), offset: Number(stored.log_offset) },
});

/** SQLite's result codes that may be gone at the next try; all others need someone to act. */
const PASSING = /^SQLITE_(BUSY|LOCKED|IOERR|NOMEM|PROTOCOL)/;

const toPinflowError = (path: string, error: unknown): PinflowError => {
  if (error instanceof PinflowError) return error;
  const code = error instanceof SQLiteError ? (error.code ?? '') : '';
  if (code.startsWith('SQLITE_FULL')) {
    return new PinflowError('disk_full', `the disk of ${path} is full: make room`, { retryable: true, cause: error });
  }
  if (/no such (table|column)/.test(messageOf(error))) {
    return new PinflowError('config', `the embedded pin store ${path} is not set up: run \`migrate\`.`, {
      cause: error,
    });
  }
  const advice = PASSING.test(code) ? '' : ' Check that DATA_DIR is on a writable local disk and the file is whole.';
  const message = `the embedded pin store ${path} failed: ${messageOf(error)}.${advice}`;
  return new PinflowError('pin_store_unavailable', message, { retryable: PASSING.test(code), cause: error });
};

const openDatabase = (dir: string, path: string): Database => {
  mkdirSync(dir, { recursive: true });
  const db = new Database(path, { create: true, readwrite: true, strict: true, safeIntegers: true });
  // First of all: the other pragmas already take locks.
  db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  db.run('PRAGMA journal_mode = WAL');
  // A commit is fsynced: `upsert` promises durability.
  db.run('PRAGMA synchronous = FULL');
  db.run(`PRAGMA cache_size = -${CACHE_KIB}`);
  db.run(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  db.run(`PRAGMA journal_size_limit = ${WAL_KEPT_BYTES}`);
  return db;
};

const migrateDatabase = (db: Database, path: string) =>
  db
    .transaction(() => {
      const found = Number(Object.values(db.query('PRAGMA user_version').get() as Record<string, bigint>)[0]);
      if (found > SCHEMA_VERSION) {
        throw new PinflowError(
          'config',
          `${path} has schema version ${found}, this program knows up to ${SCHEMA_VERSION}: run the newer program, or choose another DATA_DIR.`,
        );
      }
      db.run(SCHEMA);
      if (found === 1) db.run('ALTER TABLE userposts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0');
      for (const view of VIEWS) db.run(view);
      db.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
    })
    .immediate();

/**
 * The embedded batch view: one SQLite file, shared with other processes on the same folder.
 * An upsert is one transaction, fsynced; of two versions of an id the higher (writeTimestamp, log offset) stays.
 * @throws PinflowError `pin_store_unavailable` when the file cannot be opened
 */
export const openSqlitePinStore = (options: SqlitePinStoreOptions): PinStore => {
  const path = join(options.dir, FILE);
  const guarded = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw toPinflowError(path, error);
    }
  };
  const db = guarded(() => openDatabase(options.dir, path));
  const reader = openSqliteReader(path, options);
  const all = <T>(sql: string, ...values: Value[]): T[] => guarded(() => db.query<T, Value[]>(sql).all(...values));

  const writeAll = db.transaction((rows: readonly PinRow[], generation: number) => {
    const upsert = db.query(UPSERT);
    for (const row of rows) upsert.run(...VALUES.map((value) => value(row)), generation);
  });

  const sweep = async (generation: number, signal?: AbortSignal): Promise<number | null> => {
    const end = Number(all<{ n: bigint | null }>('SELECT max(rowid) AS n FROM userposts')[0]?.n ?? 0n);
    let removed = 0;
    for (let from = 0; from < end; from += SWEEP_ROWS) {
      if (signal?.aborted) return null;
      removed += guarded(() => db.query(SWEEP).run(from, from + SWEEP_ROWS, generation)).changes;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return removed;
  };

  const versions = async function* (): AsyncGenerator<readonly PinVersion[]> {
    type Version = { rowid: bigint; unique_id: string; write_ts: bigint };
    // By rowid, which an update keeps: a scan that others write beside gives each id once.
    const sql = `SELECT rowid, unique_id, write_ts FROM userposts WHERE rowid > ? ORDER BY rowid LIMIT ${VERSIONS_BATCH}`;
    for (let last = 0n; ; ) {
      const found = all<Version>(sql, last);
      const end = found.at(-1);
      if (end === undefined) return;
      last = end.rowid;
      yield found.map((row) => ({ uniqueId: row.unique_id, writeTimestamp: Number(row.write_ts) }));
    }
  };

  return {
    name: 'embedded',
    location: path,
    supports: { sql: true },
    migrate: async () => guarded(() => migrateDatabase(db, path)),
    upsert: async (rows, generation = 0) => {
      if (rows.length > 0) guarded(() => writeAll.immediate(rows, generation));
    },
    sweep,
    get: async (uniqueId) => {
      const stored = all<Stored>('SELECT * FROM userposts WHERE unique_id = ?', uniqueId.toLowerCase())[0];
      return stored === undefined ? null : toPinRow(stored);
    },
    versions,
    count: async () => Number(all<{ n: bigint }>('SELECT count(*) AS n FROM userposts')[0]?.n ?? 0n),
    query: async (sql, limit) => reader.query(sql, limit),
    check: async () => void all('SELECT 1 FROM userposts LIMIT 1'),
    close: async () => {
      reader.close();
      db.close();
    },
  };
};
