import { createServer } from 'node:net';
import type { BlobStore } from './blob/blob.ts';
import { openBlobStore } from './blob/open.ts';
import type { Config } from './config.ts';
import { type Lock, lockOrThrow, readPostgresAddress, tryLock } from './data-dir.ts';
import { openPinStores } from './db/pin-store/open.ts';
import type { PinStore } from './db/pin-store/pin-store.ts';
import { embeddedPostgresUrl, startEmbeddedPostgres } from './db/postgres/embedded.ts';
import { migratePostgres } from './db/postgres/migrate.ts';
import { type Database, openPostgres } from './db/postgres/open.ts';
import type { PinLog } from './log/log.ts';
import { openDeadLetterLog, openLog } from './log/open.ts';
import type { Logger } from './logger.ts';
import { retry } from './retry.ts';

/** Opens the engines for a command that runs beside the program, or without it, on the same DATA_DIR. */
export type Engines = {
  readonly config: Config;
  readonly log: PinLog;
  readonly deadLetters: PinLog;
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
  readonly database: Database;
  readonly close: () => Promise<void>;
};

/** Where Postgres is, and the lock when this process is the one to host the embedded one. */
export type PostgresPlace = { readonly url: string; readonly port: number; readonly lock: Lock | null };

/** A program that is just starting writes its address within a second; its first start takes about 6 s more. */
const ADDRESS_WAIT_ATTEMPTS = 20;
const ADDRESS_WAIT_MS = 250;

/** About half a minute: a command may come while the embedded Postgres is being created, seconds on a busy machine. */
const POSTGRES_ATTEMPTS = 35;

/** The memory of the embedded Postgres grows with its largest batch and is never given back: 5,000 pins cost 45 MB more. */
const EMBEDDED_BATCH_PINS = 2000;

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

/** What the threads of a program are given, once it is known where Postgres is. */
export const configFor = (given: Config, { url, port }: PostgresPlace): Config =>
  Object.freeze({
    ...given,
    DATABASE_URL: url,
    POSTGRES_PORT: port,
    STREAM_MAX_PINS:
      given.DATABASE_URL === undefined ? Math.min(given.STREAM_MAX_PINS, EMBEDDED_BATCH_PINS) : given.STREAM_MAX_PINS,
  });

/**
 * DATABASE_URL if set; else the embedded Postgres of a program that runs on this DATA_DIR; else one to be hosted here.
 * @throws PinflowError `in_use` when another process holds it and does not say where
 */
export const locatePostgres = async (config: Config, command: string): Promise<PostgresPlace> => {
  if (config.DATABASE_URL !== undefined) return { url: config.DATABASE_URL, port: 0, lock: null };
  const find = async (): Promise<PostgresPlace> => {
    const lock = tryLock(config.DATA_DIR, 'postgres', command);
    if (lock !== null) {
      const port = config.POSTGRES_PORT || (await freePort());
      return { url: embeddedPostgresUrl(port), port, lock };
    }
    const url = readPostgresAddress(config.DATA_DIR);
    return url === null
      ? { url: '', port: 0, lock: lockOrThrow(config.DATA_DIR, 'postgres', command) }
      : { url, port: 0, lock: null };
  };
  return retry(find, {
    attempts: ADDRESS_WAIT_ATTEMPTS,
    baseMs: ADDRESS_WAIT_MS,
    maxMs: ADDRESS_WAIT_MS,
    retryable: () => true,
  });
};

/** A migrated Postgres for one command: connects to what is there, or hosts the embedded one for as long as it runs. */
export const openDatabase = async (
  config: Config,
  logger: Logger,
  command: string,
  attempts: number = POSTGRES_ATTEMPTS,
): Promise<{ readonly database: Database; readonly close: () => Promise<void> }> => {
  const { url, port, lock } = await locatePostgres(config, command);
  const hosted = lock && (await startEmbeddedPostgres({ dir: `${config.DATA_DIR}/postgres`, port, logger }));
  const database = openPostgres({ url, logger, applicationName: `pinflow-${command}` });
  const close = async () => {
    await database.close();
    await hosted?.close();
    lock?.release();
  };
  try {
    await retry(() => migratePostgres(database), { attempts, baseMs: 50, maxMs: 1000 });
  } catch (error) {
    await close();
    throw error;
  }
  return { database, close };
};

export const openEngines = async (config: Config, logger: Logger, command: string): Promise<Engines> => {
  const { database, close } = await openDatabase(config, logger, command);
  const [log, deadLetters] = [await openLog(config, { logger }), await openDeadLetterLog(config, { logger })];
  const [store, pinStores] = [await openBlobStore(config), await openPinStores(config, logger)];
  return {
    config,
    log,
    deadLetters,
    store,
    pinStores,
    database,
    close: async () => {
      await Promise.all([log.close(), deadLetters.close(), store.close(), ...pinStores.map((s) => s.close())]);
      await close();
    },
  };
};
