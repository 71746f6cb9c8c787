import { connect, type Socket } from 'node:net';
import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import type { Logger } from '../../logger.ts';
import { asked, isConnectionLost } from './errors.ts';

/** The pool of one thread, embedded or real: the same code path. */
export type Database = {
  /** The driver: for statements whose speed matters. */
  readonly sql: postgres.Sql;
  /** Drizzle over the same pool: for everything else. */
  readonly db: PostgresJsDatabase;
  /** Resolves when the server answers. @throws PinflowError `postgres_unavailable` */
  readonly check: () => Promise<void>;
  /** Lets running queries finish for a moment, then closes. Idempotent. */
  readonly close: () => Promise<void>;
};

/** Connections of one pool: a stream worker needs one a partition, a batch run two; a few more for reads beside them. */
const MAX_CONNECTIONS = 4;
/** A server that does not take a connection in this time is away; the caller tries again. */
const CONNECT_TIMEOUT_SECONDS = 5;
/** Idle connections go, so that workers at rest do not hold a shared server's slots. */
const IDLE_TIMEOUT_SECONDS = 60;
/** Between two connection attempts of the driver: short, as whoever calls waits with a backoff of its own. */
const RECONNECT_SECONDS = 0.1;
/** Running queries get this long at `close`. */
const CLOSE_TIMEOUT_SECONDS = 5;

type Address = { readonly host: readonly string[]; readonly port: readonly number[]; readonly path: string | false };

/**
 * The driver tries again for ever, without a word, when a connection is taken and closed at once: so does a port
 * forwarder or load balancer whose server is away. Here that is an error like a refused connection.
 */
const createConnector = () => {
  let attempts = 0;
  return ({ host, port, path }: Address): Socket => {
    const server = { host: host[attempts % host.length] ?? 'localhost', port: port[attempts % host.length] ?? 5432 };
    attempts++;
    const socket = path ? connect(path) : connect(server.port, server.host);
    socket.once('close', (hadError) => {
      if (hadError || socket.bytesRead > 0) return;
      const reason = new Error(`${server.host}:${server.port} closed the connection without an answer`);
      socket.emit('error', Object.assign(reason, { code: 'ECONNRESET' }));
    });
    // The driver checks a TLS certificate against this name.
    return Object.assign(socket, server);
  };
};

/**
 * When a connection is lost within a transaction, the driver (3.4.9) sends its `rollback` to a socket that is null by then: the
 * thread gets an uncaught TypeError, and the connection never comes up again, since a write it believes to be on its way
 * holds up every later one. So the transaction's function does not settle then; the driver itself ends the transaction
 * with CONNECTION_CLOSED. Drizzle's transactions go this way too.
 */
const guardTransactions = (sql: postgres.Sql): postgres.Sql => {
  const { begin } = sql;
  type Work = (tx: postgres.TransactionSql) => unknown;
  const guarded = (work: Work) => async (tx: postgres.TransactionSql) => {
    try {
      return await work(tx);
    } catch (error) {
      if (isConnectionLost(error)) await new Promise<never>(() => {});
      throw error;
    }
  };
  return Object.assign(sql, {
    begin: (options: string | Work, work?: Work) =>
      typeof options === 'string' && work !== undefined
        ? begin(options, guarded(work))
        : begin(guarded(options as Work)),
  });
};

/**
 * A pool that connects lazily: opening never fails on a server that is away, the first query does.
 * The URL's parameters are the driver's (`sslmode`, `prepare=false` for a pooler without prepared statements, ...).
 *
 * @param max most connections (Default: 4)
 */
export const openPostgres = ({
  url,
  max = MAX_CONNECTIONS,
  logger,
  applicationName,
}: {
  readonly url: string;
  readonly max?: number;
  readonly logger: Logger;
  readonly applicationName: string;
}): Database => {
  const options = {
    max,
    connect_timeout: CONNECT_TIMEOUT_SECONDS,
    idle_timeout: IDLE_TIMEOUT_SECONDS,
    backoff: () => RECONNECT_SECONDS,
    // Arrays go as text with a cast and come through Drizzle, so their types need no look-up on every connection.
    fetch_types: false,
    // No other start-up parameter: poolers refuse those they do not know. Transactions set their own limits.
    connection: { application_name: applicationName },
    onnotice: (notice: postgres.Notice) => logger.debug({ notice: notice.message }, 'postgres notice'),
    // Documented, and missing in the driver's types.
    socket: createConnector(),
  };
  const sql = guardTransactions(postgres(url, options));
  return {
    sql,
    db: drizzle(sql),
    check: async () => {
      await asked(sql`select 1`);
    },
    close: () => sql.end({ timeout: CLOSE_TIMEOUT_SECONDS }),
  };
};
