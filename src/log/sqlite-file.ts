import { Database, SQLiteError, type SQLQueryBindings, type Statement } from 'bun:sqlite';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import { sleep } from '../retry.ts';

export type FileKind = {
  /** For messages: `record` or `consumer group`. */
  readonly what: string;
  /** SQLite's `application_id`: tells our files from foreign ones, and the kinds from each other. */
  readonly applicationId: number;
  readonly schemaVersion: number;
  /** FULL: a commit is on disk when it returns. NORMAL: power loss may undo the last commits, a killed process never does. */
  readonly synchronous: 'FULL' | 'NORMAL';
  /** Of a new file; large values want large pages. (Default: SQLite's own) */
  readonly pageBytes?: number;
  /** Fills a new file; runs in a transaction. */
  readonly create: (run: (sql: string) => void) => void;
};

/** Row of a query as the list of its columns: the fastest form bun:sqlite has. */
export type Row = readonly unknown[];

export type SqliteFile = {
  readonly prepare: (sql: string) => Statement<unknown, SQLQueryBindings[]>;
  /** Runs `work` in one write transaction, rolled back if it throws. @throws PinflowError as {@link toPinflowError} says */
  readonly transaction: <T>(work: () => T) => T;
  /** Runs a read, with errors told as PinflowErrors. */
  readonly reading: <T>(work: () => T) => T;
  readonly close: () => void;
};

/** Longest a statement waits for a writer in another process or thread. A group commit takes a few milliseconds. */
const BUSY_TIMEOUT_MS = 5000;
/** Several processes opening a new file at once can collide where SQLite does not wait by itself (the switch to WAL). */
const OPEN_ATTEMPTS = 50;
const OPEN_RETRY_MS = 20;

const DEFAULT_PAGE_BYTES = 4096;
/** The write-ahead log is brought into the file whenever it is this long: a commit that does so is held up for some 20 ms. */
const CHECKPOINT_BYTES = 8 * 1024 * 1024;
/** A write-ahead log that a slow reader made long is cut back to this, bytes. */
const WAL_LIMIT_BYTES = 64 * 1024 * 1024;

const DISK_FULL = new Set(['SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_IOERR_SHMSIZE', 'SQLITE_IOERR_TRUNCATE']);
const NOT_OURS = new Set(['SQLITE_NOTADB', 'SQLITE_CORRUPT']);
const NOT_ALLOWED = /^SQLITE_(CANTOPEN|READONLY|PERM)/;

const codeOf = (error: unknown): string => (error instanceof SQLiteError ? (error.code ?? '') : '');

/** SQLite's errors in the terms of the port: `disk_full` and `log_unavailable` can be retried, a damaged file is `config`. */
const toPinflowError = (error: unknown, path: string): PinflowError => {
  if (isPinflowError(error)) return error;
  const code = codeOf(error);
  const options = { cause: error, retryable: true };
  if (DISK_FULL.has(code)) {
    return new PinflowError('disk_full', `no room to write ${path}: free some space, it goes on by itself.`, options);
  }
  if (NOT_OURS.has(code)) {
    return new PinflowError(
      'config',
      `${path} is damaged or not a SQLite file (${messageOf(error)}): restore it, or move it away to begin anew.`,
      { cause: error },
    );
  }
  return new PinflowError('log_unavailable', `${path}: ${messageOf(error)} (${code || 'no code'}).`, options);
};

const numberOf = (db: Database, sql: string): number => {
  using statement = db.prepare(sql);
  return Number(statement.values()[0]?.[0] ?? 0);
};

/** @param begin `BEGIN` reads one state of the file, whatever others write meanwhile; `BEGIN IMMEDIATE` takes the write lock */
const inTransaction = <T>(db: Database, work: () => T, begin: 'BEGIN' | 'BEGIN IMMEDIATE' = 'BEGIN IMMEDIATE'): T => {
  db.run(begin);
  try {
    const result = work();
    db.run('COMMIT');
    return result;
  } catch (error) {
    // Some errors (a full disk) have rolled back already.
    if (db.inTransaction) db.run('ROLLBACK');
    throw error;
  }
};

/** @throws PinflowError `config` for a file that is not of this kind or from a newer version */
const checkKind = (db: Database, path: string, kind: FileKind): 'new' | 'known' => {
  const applicationId = numberOf(db, 'PRAGMA application_id');
  const isEmpty = numberOf(db, 'SELECT count(*) FROM sqlite_schema') === 0;
  if (applicationId === 0 && isEmpty) return 'new';
  if (applicationId !== kind.applicationId) {
    throw new PinflowError('config', `${path} is not a ${kind.what} file of pinflow: move it away or change DATA_DIR.`);
  }
  const version = numberOf(db, 'PRAGMA user_version');
  if (version !== kind.schemaVersion) {
    throw new PinflowError(
      'config',
      `${path} has schema version ${version}, this program knows ${kind.schemaVersion}: run the version that wrote it.`,
    );
  }
  return 'known';
};

const prepareFile = (db: Database, path: string, kind: FileKind): void => {
  db.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  // Both looks of it at one state: between them another process may create the file, which would then seem foreign.
  const state = inTransaction(db, () => checkKind(db, path, kind), 'BEGIN');
  if (kind.pageBytes !== undefined) db.run(`PRAGMA page_size = ${kind.pageBytes}`);
  db.run('PRAGMA journal_mode = WAL');
  db.run(`PRAGMA wal_autocheckpoint = ${Math.round(CHECKPOINT_BYTES / (kind.pageBytes ?? DEFAULT_PAGE_BYTES))}`);
  db.run(`PRAGMA journal_size_limit = ${WAL_LIMIT_BYTES}`);
  db.run(`PRAGMA synchronous = ${kind.synchronous}`);
  if (state === 'known') return;
  inTransaction(db, () => {
    // Another process may have been first, between the look and the lock.
    if (checkKind(db, path, kind) === 'known') return;
    kind.create((sql) => db.run(sql));
    db.run(`PRAGMA application_id = ${kind.applicationId}`);
    db.run(`PRAGMA user_version = ${kind.schemaVersion}`);
  });
};

const openDatabase = async (path: string, kind: FileKind): Promise<Database> => {
  for (let attempt = 1; ; attempt++) {
    let db: Database | null = null;
    try {
      db = new Database(path, { create: true, readwrite: true });
      prepareFile(db, path, kind);
      return db;
    } catch (error) {
      db?.close();
      const code = codeOf(error);
      if (NOT_ALLOWED.test(code)) {
        const message = `${path} cannot be opened for writing (${messageOf(error)}): check the rights and the room of its folder.`;
        throw new PinflowError('config', message, { cause: error });
      }
      if (attempt >= OPEN_ATTEMPTS || !code.startsWith('SQLITE_BUSY')) throw toPinflowError(error, path);
      await sleep(OPEN_RETRY_MS);
    }
  }
};

export type OpenSqliteFile = (path: string, kind: FileKind) => Promise<SqliteFile>;

/** Opens a SQLite file in WAL mode, creating it if there is none. Safe while other processes do the same. */
export const openSqliteFile: OpenSqliteFile = async (path, kind) => {
  const db = await openDatabase(path, kind);
  const statements: Statement[] = [];
  const reading = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw toPinflowError(error, path);
    }
  };
  return {
    prepare: (sql) => {
      const statement = db.prepare<unknown, SQLQueryBindings[]>(sql);
      statements.push(statement);
      return statement;
    },
    transaction: (work) => reading(() => inTransaction(db, work)),
    reading,
    close: () => {
      // A connection with open statements would live on, and keep the file, until it is collected.
      for (const statement of statements) statement.finalize();
      db.close(true);
    },
  };
};
