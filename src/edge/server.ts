import { PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { atMost } from '../retry.ts';
import type { EdgeApp } from './app.ts';
import type { EdgeBindings } from './deps.ts';
import { responseOf } from './error-response.ts';

/** A connection may be silent this much longer than the app's own limit on bodies, so that the client is told why. */
const IDLE_MARGIN_SECONDS = 5;
const MAX_IDLE_SECONDS = 255;

type EdgeOptions = {
  readonly app: Pick<EdgeApp, 'fetch'>;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Where `port` comes from, for messages. (Default: PORT) */
  readonly portSetting?: 'PORT' | 'METRICS_PORT';
  /** Longest the app takes over one request without a word, milliseconds. */
  readonly requestTimeoutMs: number;
  readonly logger: Logger;
};

export type Edge = {
  /** Such as `http://127.0.0.1:8000`, without a slash at the end. */
  readonly url: string;
  /**
   * Stops accepting, closes idle connections, ends streams, lets requests under way finish and closes behind them. Idempotent.
   * @param deadlineMs after this what is still under way is cut off
   * @returns how many requests were cut off
   */
  readonly stop: (deadlineMs: number) => Promise<number>;
};

type Listening = Pick<EdgeOptions, 'host' | 'port'> & Required<Pick<EdgeOptions, 'portSetting'>>;

const startError = (cause: unknown, { host, port, portSetting }: Listening): PinflowError => {
  const code = (cause as { readonly code?: unknown }).code;
  if (code !== 'EADDRINUSE') {
    const message = `cannot listen on ${host} port ${port} (${String(code)}): set HOST and ${portSetting}`;
    return new PinflowError('config', message, { cause });
  }
  const message = `port ${port} on ${host} is taken: stop what listens there, or set ${portSetting} to another (${portSetting}=0 takes a free one)`;
  return new PinflowError('in_use', message, { cause });
};

/** Bun's own limit is 255 seconds; a longer one has to be none. */
const idleTimeout = (requestTimeoutMs: number): number => {
  const seconds = Math.ceil(requestTimeoutMs / 1000) + IDLE_MARGIN_SECONDS;
  return seconds > MAX_IDLE_SECONDS ? 0 : seconds;
};

/**
 * Puts the app on a port.
 *
 * Bun closes a connection on which a request is sent before the answer to the one ahead of it (oven-sh/bun#38128). No pin is
 * lost by that, as none was answered: the client sends again. Clients that wait for each answer are not concerned.
 * @throws PinflowError `in_use` when the port is taken, `config` when host or port cannot be listened on
 */
export const startEdge = (options: EdgeOptions): Edge => {
  const { app, host, port, portSetting = 'PORT', requestTimeoutMs, logger } = options;
  const drain = new AbortController();
  const bindings: EdgeBindings = {
    keepOpen: (request) => server.timeout(request, 0),
    draining: drain.signal,
  };
  const serve = () =>
    Bun.serve({
      hostname: host,
      port,
      development: false,
      // Not a default: outside development Bun shares a port with whoever else asks, and requests go to either at random.
      reusePort: false,
      idleTimeout: idleTimeout(requestTimeoutMs),
      // Bodies are limited by the app, which answers in the shape of all other errors; bytes nobody reads are not buffered.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request) => app.fetch(request, bindings),
      error: (error) => responseOf(error, logger),
    });
  let server: ReturnType<typeof serve>;
  try {
    server = serve();
  } catch (error) {
    throw startError(error, { host, port, portSetting });
  }

  const stop = async (deadlineMs: number): Promise<number> => {
    drain.abort();
    await atMost(server.stop(), deadlineMs);
    const cut = server.pendingRequests;
    if (cut > 0) logger.warn(`${cut} requests were still under way after ${deadlineMs} ms and were cut off`);
    await server.stop(true);
    return cut;
  };
  let stopped: Promise<number> | null = null;
  return {
    url: server.url.origin,
    stop: (deadlineMs) => {
      stopped ??= stop(deadlineMs);
      return stopped;
    },
  };
};
