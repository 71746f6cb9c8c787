import { BasicAuth, type Iterator as Pages, Trino, type QueryResult as TrinoPage } from 'trino-client';
import type { Config } from '../config.ts';
import { messageOf, PinflowError } from '../errors.ts';
import { withoutPassword } from '../logger.ts';
import { retry, sleep } from '../retry.ts';
import type { QueryResult } from './pin-store/pin-store.ts';
import { oneReadOnlyStatement } from './read-only.ts';

export type TrinoConfig = Pick<
  Config,
  'TRINO_URL' | 'TRINO_USER' | 'TRINO_CATALOG' | 'TRINO_PRESTO_HEADERS' | 'CQL_KEYSPACE'
>;

/** Longest wait for one answer, milliseconds: the coordinator answers within a second or so, if only that the query goes on. */
const REQUEST_TIMEOUT_MS = 60_000;
/** The protocol asks to try again when a proxy or the coordinator is not ready (429, 502, 503, 504). */
const ATTEMPTS = 10;
const RETRY_BASE_MS = 100;
const RETRY_MAX_MS = 2000;
const TRY_AGAIN: ReadonlySet<unknown> = new Set([429, 502, 503, 504]);

/** As the HTTP client inside trino-client throws them. */
type HttpError = {
  readonly code?: unknown;
  readonly response?: { readonly status?: unknown; readonly data?: unknown };
};

const statusOf = (error: unknown): unknown => (error as HttpError | null)?.response?.status;

/** Presto takes the same protocol with other header names; empty ones are not sent. */
const headersFor = (config: TrinoConfig): Record<string, string> =>
  config.TRINO_PRESTO_HEADERS
    ? {
        'X-Presto-User': config.TRINO_USER,
        'X-Presto-Source': 'pinflow',
        'X-Presto-Catalog': config.TRINO_CATALOG,
        'X-Presto-Schema': config.CQL_KEYSPACE,
        'X-Trino-User': '',
        'X-Trino-Source': '',
      }
    : {
        'X-Trino-User': config.TRINO_USER,
        'X-Trino-Source': 'pinflow',
        'X-Trino-Catalog': config.TRINO_CATALOG,
        'X-Trino-Schema': config.CQL_KEYSPACE,
      };

/** A user and password in the URL are sent as basic authentication, and not shown in messages. */
const connect = (url: string, config: TrinoConfig): Trino => {
  const { username, password, origin, pathname } = new URL(url);
  const auth = username === '' ? undefined : new BasicAuth(decodeURIComponent(username), decodeURIComponent(password));
  return Trino.create({ server: origin + pathname, auth, extraHeaders: headersFor(config) });
};

const unreachable = (url: string, error: unknown): PinflowError => {
  const status = statusOf(error);
  const data = (error as HttpError | null)?.response?.data;
  const said = typeof data === 'string' && data !== '' ? `: ${data.slice(0, 300)}` : '';
  const reason =
    status === undefined ? messageOf(error) || String((error as HttpError).code) : `HTTP status ${status}${said}`;
  const advice = status === 401 || status === 403 ? 'TRINO_USER (and the credentials in TRINO_URL)' : 'TRINO_URL';
  return new PinflowError('query', `Trino at ${withoutPassword(url)} did not answer: ${reason}. Check ${advice}.`, {
    // Without the cause: the HTTP client's errors carry the credentials.
    retryable: status === undefined || TRY_AGAIN.has(status),
  });
};

const failed = (error: NonNullable<TrinoPage['error']>): PinflowError =>
  new PinflowError('query', `Trino refused the query: ${error.message} (${error.errorName})`, {
    retryable: error.errorType !== 'USER_ERROR',
  });

/** One request of the protocol: bounded in time, and again while the answer is "not now". */
const request = <T>(url: string, work: () => Promise<T>): Promise<T> =>
  retry(
    async () => {
      const waiting = new AbortController();
      const tooLong = sleep(REQUEST_TIMEOUT_MS, waiting.signal).then(() => {
        throw new Error(`no answer within ${REQUEST_TIMEOUT_MS / 1000} s`);
      });
      // Once the answer is there, nobody waits for the timer's rejection.
      tooLong.catch(() => {});
      try {
        return await Promise.race([work(), tooLong]);
      } finally {
        waiting.abort();
      }
    },
    { attempts: ATTEMPTS, baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, retryable: (e) => TRY_AGAIN.has(statusOf(e)) },
  ).catch((error) => {
    throw unreachable(url, error);
  });

const readPages = async (url: string, trino: Trino, pages: Pages<TrinoPage>, limit: number): Promise<QueryResult> => {
  const rows: (readonly unknown[])[] = [];
  let columns: readonly string[] = [];
  let last: TrinoPage | null = null;
  for (;;) {
    const { value, done } = await request(url, () => pages.next());
    const page: TrinoPage = value;
    if (page.error !== undefined) throw failed(page.error);
    columns = page.columns?.map((column) => column.name) ?? columns;
    // At the end the client gives the last page once more.
    if (page !== last) for (const row of (page.data ?? []) as unknown[][]) rows.push(row);
    if (rows.length > limit) {
      await request(url, () => trino.cancel(page.id)).catch(() => {});
      return { columns, rows: rows.slice(0, limit), truncated: true };
    }
    if (done) return { columns, rows, truncated: false };
    last = page;
  }
};

/**
 * SQL over the batch view by Trino (or Presto): plain names are looked up in TRINO_CATALOG and CQL_KEYSPACE. Reads page by page, and
 * cancels the query once `limit` rows are there. Integers beyond 2^53 come rounded, as the client parses JSON: cast those to varchar.
 * @throws PinflowError `query` with Trino's own reason, or naming TRINO_URL when it cannot be reached
 */
export const queryTrino = async (config: TrinoConfig, sql: string, limit: number): Promise<QueryResult> => {
  const url = config.TRINO_URL;
  if (url === undefined) throw new PinflowError('query', 'there is no Trino to ask: set TRINO_URL.');
  const statement = oneReadOnlyStatement(sql);
  const trino = connect(url, config);
  const pages = await request(url, () => trino.query(statement));
  return readPages(url, trino, pages, limit);
};
