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
  /** Others that ask for it too may listen on `port`; connections are dealt among them. Linux only. (Default: false) */
  readonly reusePort?: boolean;
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

type Listening = Pick<EdgeOptions, 'host' | 'port'> & Required<Pick<EdgeOptions, 'portSetting' | 'reusePort'>>;

const startError = (cause: unknown, { host, port, portSetting, reusePort }: Listening): PinflowError => {
  const code = (cause as { readonly code?: unknown }).code;
  if (code !== 'EADDRINUSE') {
    const message = `cannot listen on ${host} port ${port} (${String(code)}): set HOST and ${portSetting}`;
    return new PinflowError('config', message, { cause });
  }
  // Linux shares a port only among programs that all ask for it, of one user (socket(7)).
  const message = reusePort
    ? `port ${port} on ${host} is taken by a program that does not share it: stop that one, give it REUSE_PORT=true if it is an edge of the same user, or set ${portSetting} to another. Ports are shared on Linux only`
    : `port ${port} on ${host} is taken: stop what listens there, or set ${portSetting} to another (${portSetting}=0 takes a free one)`;
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
 * @throws PinflowError `in_use` when the port is taken (with `reusePort`: by one that does not share it), `config` when host or port cannot be listened on
 */
export const startEdge = (options: EdgeOptions): Edge => {
  const { app, host, port, portSetting = 'PORT', reusePort = false, requestTimeoutMs, logger } = options;
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
      // Always said, as `false` is not the default: outside development Bun shares a port with whoever else asks, and requests
      // go to either at random. Sharing is for edges that were told to; Bun ignores it but on Linux (bun.com/docs/guides/http/cluster).
      reusePort,
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
    throw startError(error, { host, port, portSetting, reusePort });
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
