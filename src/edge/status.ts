import { messageOf, PinflowError } from '../errors.ts';
import { withDeadline } from '../retry.ts';
import type { EdgeBindings, EdgeDeps, RecentError, RecentRun, Status } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';
import { type EventReader, eventStream } from './event-stream.ts';

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
/** Events a slow reader may lag behind; it then misses some rather than filling memory. */
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

/** What a stream says at one moment, by the name of the event. */
type Events = Readonly<Record<string, string>>;

const encoder = new TextEncoder();
const eventText = (name: string, data: string): string => `event: ${name}\ndata: ${data}\n\n`;

/** One timer for all open streams, and none while nobody watches. A reader is told what changed since it was last told. */
const createTicker = (render: () => Promise<Events>) => {
  const readers = new Map<EventReader, Map<string, string>>();
  let timer: ReturnType<typeof setInterval> | null = null;
  let rendering = false;

  const tell = (reader: EventReader, told: Map<string, string>, events: Events) => {
    if ((reader.desiredSize ?? 0) <= 0) return;
    const news = Object.entries(events).filter(([name, data]) => told.get(name) !== data);
    for (const [name, data] of news) told.set(name, data);
    // A comment keeps the connection, and tells a page that all is well but nothing new.
    const text = news.map(([name, data]) => eventText(name, data)).join('') || ': nothing new\n\n';
    reader.enqueue(encoder.encode(text));
  };

  const tick = async () => {
    if (rendering) return;
    rendering = true;
    try {
      const events = await render();
      for (const [reader, told] of readers) tell(reader, told, events);
    } finally {
      rendering = false;
    }
  };

  const remove = (reader: EventReader) => {
    readers.delete(reader);
    if (readers.size > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  };

  return {
    size: () => readers.size,
    remove,
    add: (reader: EventReader) => {
      readers.set(reader, new Map());
      timer ??= setInterval(() => void tick(), TICK_MS);
      void tick();
    },
  };
};

type Deps = Pick<EdgeDeps, 'status' | 'recentErrors' | 'recentRuns' | 'history' | 'clock' | 'logger'>;

/**
 * `GET /status` and `GET /status/stream`: the dashboard's numbers, once or every second as server-sent events: `history` at the
 * start, then `status` each second, `errors` and `runs` when they changed.
 */
export const createStatusRoutes = (deps: Deps) => {
  const errors = createFeed(deps.recentErrors);
  const runs = createFeed(deps.recentRuns);

  const snapshot = async (): Promise<Snapshot> => {
    const [status, recentErrors, recentRuns] = await Promise.all([deps.status(), errors(), runs()]);
    return { ...status, at: new Date(deps.clock.now()).toISOString(), recentErrors, recentRuns };
  };

  const render = async (): Promise<Events> => {
    try {
      const { recentErrors, recentRuns, ...status } = await snapshot();
      return {
        status: JSON.stringify(status),
        errors: JSON.stringify(recentErrors),
        runs: JSON.stringify(recentRuns),
      };
    } catch (error) {
      deps.logger.warn(`no numbers for the dashboard: ${messageOf(error)}`);
      return {};
    }
  };
  const ticker = createTicker(render);

  const stream = (request: Request, { keepOpen, draining }: EdgeBindings): Response => {
    if (ticker.size() >= MAX_STREAMS)
      throw new PinflowError('overloaded', `${MAX_STREAMS} dashboards are open already: close one`);
    keepOpen?.(request);
    return eventStream({
      request,
      draining,
      bufferChunks: STREAM_BUFFER,
      open: (reader) => {
        const history = eventText('history', JSON.stringify(deps.history()));
        reader.enqueue(encoder.encode(`retry: ${TICK_MS}\n\n${history}`));
        ticker.add(reader);
        return () => ticker.remove(reader);
      },
    });
  };

  return {
    getStatus: async (): Promise<Response> => new Response(JSON.stringify(await snapshot()), { headers: JSON_HEADERS }),
    getStream: stream,
  };
};
