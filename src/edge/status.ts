import { messageOf, PinflowError } from '../errors.ts';
import { withDeadline } from '../retry.ts';
import type { EdgeBindings, EdgeDeps, RecentError, RecentRun, Status } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

/** A list that may come from an engine that is down: then it says so and keeps what was last known. */
export type Feed<T> = { readonly rows: readonly T[]; readonly problem: string | null };

/** What the dashboard shows at one moment. */
export type Snapshot = Status & {
  /** RFC 3339. */
  readonly at: string;
  readonly recentErrors: Feed<RecentError>;
  readonly recentRuns: Feed<RecentRun>;
};

/** Milliseconds between snapshots; what a person watches and an idle engine does not feel. */
const TICK_MS = 1000;
/** A list that takes longer is shown as it last was. */
const FEED_TIMEOUT_MS = 2000;
/** Open dashboards at once. Each costs a socket and a copy of every snapshot. */
const MAX_STREAMS = 100;
/** Snapshots a slow reader may lag behind; it then misses some rather than filling memory. */
const STREAM_BUFFER = 4;

/** Asks one source at most once at a time and remembers its last answer. Only the caller who asks waits, and not for ever. */
const createFeed = <T>(ask: () => Promise<readonly T[]>): (() => Promise<Feed<T>>) => {
  let latest: Feed<T> = { rows: [], problem: null };
  let asking = false;
  const failed = (error: unknown) => {
    latest = { rows: latest.rows, problem: messageOf(error) };
  };
  const refresh = async () => {
    try {
      latest = { rows: await ask(), problem: null };
    } catch (error) {
      failed(error);
    } finally {
      asking = false;
    }
  };
  const late = () => new PinflowError('timeout', `no answer within ${FEED_TIMEOUT_MS} ms`);
  return async () => {
    if (asking) return latest;
    asking = true;
    await withDeadline(refresh(), FEED_TIMEOUT_MS, late).catch(failed);
    return latest;
  };
};

const encoder = new TextEncoder();

/** One timer for all open streams, and none while nobody watches. */
const createTicker = (render: () => Promise<Uint8Array>) => {
  const readers = new Set<ReadableStreamDefaultController<Uint8Array>>();
  let timer: ReturnType<typeof setInterval> | null = null;
  let rendering = false;

  const tick = async () => {
    if (rendering) return;
    rendering = true;
    try {
      const event = await render();
      for (const reader of readers) if ((reader.desiredSize ?? 0) > 0) reader.enqueue(event);
    } finally {
      rendering = false;
    }
  };

  const remove = (reader: ReadableStreamDefaultController<Uint8Array>) => {
    readers.delete(reader);
    if (readers.size > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  };

  return {
    size: () => readers.size,
    remove,
    add: (reader: ReadableStreamDefaultController<Uint8Array>) => {
      readers.add(reader);
      timer ??= setInterval(() => void tick(), TICK_MS);
      void tick();
    },
  };
};

/** `GET /status` and `GET /status/stream`: the dashboard's numbers, once or every second as server-sent events. */
export const createStatusRoutes = (
  deps: Pick<EdgeDeps, 'status' | 'recentErrors' | 'recentRuns' | 'clock' | 'logger'>,
) => {
  const errors = createFeed(deps.recentErrors);
  const runs = createFeed(deps.recentRuns);

  const snapshot = async (): Promise<Snapshot> => {
    const [status, recentErrors, recentRuns] = await Promise.all([deps.status(), errors(), runs()]);
    return { ...status, at: new Date(deps.clock.now()).toISOString(), recentErrors, recentRuns };
  };

  const render = async (): Promise<Uint8Array> => {
    try {
      return encoder.encode(`event: snapshot\ndata: ${JSON.stringify(await snapshot())}\n\n`);
    } catch (error) {
      deps.logger.warn(`no snapshot for the dashboard: ${messageOf(error)}`);
      return encoder.encode(': no snapshot now\n\n');
    }
  };
  const ticker = createTicker(render);

  const stream = (request: Request, { keepOpen, draining }: EdgeBindings): Response => {
    if (ticker.size() >= MAX_STREAMS)
      throw new PinflowError('overloaded', `${MAX_STREAMS} dashboards are open already: close one`);
    keepOpen?.(request);
    let leave = () => {};
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          leave = () => {
            ticker.remove(controller);
            draining?.removeEventListener('abort', end);
          };
          const end = () => {
            leave();
            controller.close();
          };
          draining?.addEventListener('abort', end);
          // A client that left before its first byte cancels nothing: the request tells.
          request.signal.addEventListener('abort', () => leave());
          controller.enqueue(encoder.encode(`retry: ${TICK_MS}\n\n`));
          ticker.add(controller);
        },
        cancel: () => leave(),
      },
      { highWaterMark: STREAM_BUFFER },
    );
    return new Response(body, { headers: { ...JSON_HEADERS, 'Content-Type': 'text/event-stream' } });
  };

  return {
    getStatus: async (): Promise<Response> => new Response(JSON.stringify(await snapshot()), { headers: JSON_HEADERS }),
    getStream: stream,
  };
};
