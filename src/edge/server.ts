import { PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { sleep } from '../retry.ts';
import type { EdgeApp } from './app.ts';
import type { EdgeBindings } from './deps.ts';
import { responseOf } from './error-response.ts';

/** A connection may be silent this much longer than the app's own limit on bodies, so that the client is told why. */
const IDLE_MARGIN_SECONDS = 5;
const MAX_IDLE_SECONDS = 255;
/** Milliseconds between looks at whether the last request has been answered. */
const DRAIN_POLL_MS = 10;

export type EdgeOptions = {
  readonly app: Pick<EdgeApp, 'fetch'>;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** REQUEST_TIMEOUT_MS, milliseconds. */
  readonly requestTimeoutMs: number;
  readonly logger: Logger;
};

export type Edge = {
  /** Such as `http://127.0.0.1:8000`, without a slash at the end. */
  readonly url: string;
  /**
   * Stops accepting, lets requests under way finish, ends streams, then closes every connection. Requests that still
   * arrive on open connections are answered with `Connection: close`. Idempotent.
   * @param deadlineMs after this what is still under way is cut off
   * @returns how many requests were cut off
   */
  readonly stop: (deadlineMs: number) => Promise<number>;
};

const startError = (error: unknown, host: string, port: number): PinflowError => {
  const code = (error as { readonly code?: unknown }).code;
  if (code === 'EADDRINUSE')
    return new PinflowError(
      'in_use',
      `port ${port} on ${host} is taken by another program: stop that one, or set PORT to another (PORT=0 takes a free one)`,
      { cause: error },
    );
  return new PinflowError('config', `cannot listen on ${host} port ${port} (${String(code)}): set HOST and PORT`, {
    cause: error,
  });
};

/** Bun's own limit is 255 seconds; a longer one has to be none. */
const idleTimeout = (requestTimeoutMs: number): number => {
  const seconds = Math.ceil(requestTimeoutMs / 1000) + IDLE_MARGIN_SECONDS;
  return seconds > MAX_IDLE_SECONDS ? 0 : seconds;
};

/**
 * Puts the app on a port.
 * @throws PinflowError `in_use` when the port is taken, `config` when host or port cannot be listened on
 */
export const startEdge = ({ app, host, port, requestTimeoutMs, logger }: EdgeOptions): Edge => {
  const drain = new AbortController();
  const bindings: EdgeBindings = {
    keepOpen: (request) => server.timeout(request, 0),
    draining: drain.signal,
  };
  const lastAnswer = async (request: Request): Promise<Response> => {
    const response = await app.fetch(request, bindings);
    response.headers.set('Connection', 'close');
    return response;
  };
  const serve = () =>
    Bun.serve({
      hostname: host,
      port,
      development: false,
      idleTimeout: idleTimeout(requestTimeoutMs),
      // Bodies are limited by the app, which answers in the shape of all other errors; bytes nobody reads are not buffered.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request) => (drain.signal.aborted ? lastAnswer(request) : app.fetch(request, bindings)),
      error: (error) => responseOf(error, logger),
    });
  let server: ReturnType<typeof serve>;
  try {
    server = serve();
  } catch (error) {
    throw startError(error, host, port);
  }

  const stop = async (deadlineMs: number): Promise<number> => {
    const deadline = performance.now() + deadlineMs;
    void server.stop();
    drain.abort();
    while (server.pendingRequests > 0 && performance.now() < deadline) await sleep(DRAIN_POLL_MS);
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
