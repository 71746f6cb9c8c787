import { messageOf, PinflowError } from '../errors.ts';
import { isUuid } from '../pin/pin.ts';
import type { EdgeBindings, EdgeDeps } from './deps.ts';
import { type EventReader, eventStream } from './event-stream.ts';
import { answered, type HandledWatch } from './handled-watch.ts';
import { type Verdict, verdictOf } from './verdict.ts';

/** Streams at once. Each may read the log by itself while it catches up. */
const MAX_STREAMS = 50;
/** Records of a partition read at once: 5,000 a second of each. */
const MAX_RECORDS = 500;
/** Characters told at a poll, more or less an event: some 15,000 pins a second, and 50 MB if nobody takes what all streams hold. */
const MAX_CHUNK = 512 * 1024;
/** Chunks a client may lag behind before it is given no more, and the time after which it is dropped. */
const STREAM_BUFFER = 2;
const STALLED_MS = 30_000;
/** What is silent for so long tells its place, so that proxies keep it open. Milliseconds. */
const KEEP_ALIVE_MS = 10_000;
/** Partitions a client may name, and digits of an offset. */
const EVENT_ID = /^\d{1,6}:\d{1,15}(,\d{1,6}:\d{1,15}){0,999}$/;

/** Null: any. */
type Filter = {
  readonly uniqueId: string | null;
  readonly category: string | null;
  readonly source: string | null;
};

type Stream = {
  readonly filter: Filter;
  /** Next offset to tell of, by partition; one that is absent begins with the earliest record. */
  readonly next: Map<number, number>;
  readonly controller: EventReader;
  readonly end: () => void;
  /** When it last took something, or was last told its place. Milliseconds. */
  tookAt: number;
  toldAt: number;
};

const encoder = new TextEncoder();
/** Nothing handled yet is the start of the log: an empty id would be none, and a client would begin with what is new. */
const idOf = (next: ReadonlyMap<number, number>): string =>
  [...next].map(([partition, offset]) => `${partition}:${offset}`).join(',') || '0:0';

const readEventId = (text: string): Map<number, number> => {
  if (!EVENT_ID.test(text))
    throw new PinflowError('bad_query', 'Last-Event-ID should be the id of an event, such as 0:12,1:40');
  return new Map(text.split(',').map((pair) => pair.split(':').map(Number) as [number, number]));
};

const readFilter = (search: URLSearchParams, source: string | null): Filter => {
  const unknown = [...search.keys()].find((name) => name !== 'unique_id' && name !== 'category');
  if (unknown !== undefined)
    throw new PinflowError(
      'bad_query',
      `there is no parameter ${JSON.stringify(unknown.slice(0, 100))}: there are unique_id, category`,
    );
  const uniqueId = search.get('unique_id')?.toLowerCase() ?? null;
  if (uniqueId !== null && !isUuid(uniqueId)) throw new PinflowError('bad_query', '"unique_id" should be a UUID');
  return { uniqueId, category: search.get('category'), source };
};

const wants = ({ uniqueId, category, source }: Filter, verdict: Verdict): boolean =>
  (source === null || verdict.source === source) &&
  (uniqueId === null || verdict.uniqueId === uniqueId) &&
  (category === null || (verdict.category ?? '') === category);

type Deps = Pick<EdgeDeps, 'feedback' | 'clock' | 'logger'> & { readonly handledWatch: HandledWatch };
type Page = {
  readonly verdicts: readonly { readonly offset: number; readonly verdict: Verdict }[];
  readonly next: number;
};

/** Verdicts of what the speed view has handled; streams that stand at one place share a read. */
const createPages = ({ feedback }: Deps, handled: ReadonlyMap<number, number>) => {
  const pages = new Map<string, Promise<Page>>();
  const load = async (partition: number, offset: number, to: number): Promise<Page> => {
    const records = await answered(feedback.read({ partition, offset }, MAX_RECORDS));
    const done = records.filter((record) => record.offset < to);
    // A page may be short of what was asked for, or empty for a moment: what comes next is only known from what came.
    const isWhole = done.length < records.length;
    const next = isWhole ? to : (done.at(-1)?.offset ?? offset - 1) + 1;
    return { verdicts: done.map((record) => ({ offset: record.offset, verdict: verdictOf(record) })), next };
  };
  return (partition: number, offset: number): Promise<Page> | null => {
    const to = handled.get(partition) ?? 0;
    if (offset >= to) return null;
    return pages.getOrInsertComputed(`${partition}/${offset}`, () => load(partition, offset, to));
  };
};

/** So that no partition waits for ever behind the others of a stream that catches up. */
const farthestFirst = (handled: ReadonlyMap<number, number>, next: ReadonlyMap<number, number>): readonly number[] => {
  const behind = (partition: number) => (handled.get(partition) ?? 0) - (next.get(partition) ?? 0);
  return [...handled.keys()].sort((a, b) => behind(b) - behind(a));
};

/** Tells one stream of what is new to it. What it did not take it will be told at a later poll: it lags, and memory does not grow. */
const tell = async (
  stream: Stream,
  handled: ReadonlyMap<number, number>,
  pageOf: ReturnType<typeof createPages>,
  now: number,
) => {
  const { controller, next, filter } = stream;
  if ((controller.desiredSize ?? 0) <= 0) {
    if (now - stream.tookAt > STALLED_MS) stream.end();
    return;
  }
  stream.tookAt = now;
  let text = '';
  for (const partition of farthestFirst(handled, next)) {
    const page = await pageOf(partition, next.get(partition) ?? 0);
    for (const { offset, verdict } of page?.verdicts ?? []) {
      if (text.length >= MAX_CHUNK) break;
      next.set(partition, offset + 1);
      if (wants(filter, verdict)) text += `id: ${idOf(next)}\ndata: ${verdict.json}\n\n`;
    }
    if (text.length >= MAX_CHUNK) break;
    if (page !== null) next.set(partition, page.next);
  }
  // An id without data is no event, and yet where a client goes on.
  if (text === '' && now - stream.toldAt >= KEEP_ALIVE_MS) text = `: nothing new\nid: ${idOf(next)}\n\n`;
  if (text === '') return;
  stream.toldAt = now;
  controller.enqueue(encoder.encode(text));
};

/** All open streams, told together so that those at one place share a read; while one round runs, no other begins. */
const createStreams = (deps: Deps) => {
  const streams = new Set<Stream>();
  let telling = false;
  let unwatch: (() => void) | null = null;

  const tellOne = async (
    stream: Stream,
    handled: ReadonlyMap<number, number>,
    pageOf: ReturnType<typeof createPages>,
  ) => {
    try {
      await tell(stream, handled, pageOf, deps.clock.now());
    } catch (error) {
      // It left while the log was read, or the log cannot be read: its place is where it was told up to.
      deps.logger.debug(`a stream of feedback ends: ${messageOf(error)}`);
      stream.end();
    }
  };
  const tellAll = async (handled: ReadonlyMap<number, number>) => {
    if (telling) return;
    telling = true;
    try {
      const pageOf = createPages(deps, handled);
      for (const stream of [...streams]) if (streams.has(stream)) await tellOne(stream, handled, pageOf);
    } finally {
      telling = false;
    }
  };
  return {
    size: () => streams.size,
    add: (stream: Stream) => {
      streams.add(stream);
      unwatch ??= deps.handledWatch.watch((handled) => void tellAll(handled));
    },
    remove: (stream: Stream) => {
      streams.delete(stream);
      if (streams.size > 0) return;
      unwatch?.();
      unwatch = null;
    },
  };
};

/**
 * `GET /feedback?unique_id=&category=`: server-sent events, one a pin once the speed view has handled it: clean, or which fields
 * are wrong and why; with API_KEYS, of the pins that were posted with the key that asks. The id of an event is the next offset of each partition, so Last-Event-ID goes on exactly there.
 */
export const createGetFeedback = (deps: Deps) => {
  const streams = createStreams(deps);
  let starting = 0;

  const startOf = async (request: Request): Promise<Map<number, number>> => {
    const last = request.headers.get('last-event-id') ?? '';
    const handled = await answered(deps.feedback.handled());
    return last === '' ? new Map(handled) : readEventId(last);
  };

  const open = (next: Map<number, number>, filter: Filter, request: Request, draining?: AbortSignal): Response =>
    eventStream({
      request,
      draining,
      bufferChunks: STREAM_BUFFER,
      open: (controller, end) => {
        const now = deps.clock.now();
        const stream: Stream = { filter, next, controller, end, tookAt: now, toldAt: now };
        controller.enqueue(encoder.encode(`retry: 1000\nid: ${idOf(next)}\n\n`));
        streams.add(stream);
        return () => streams.remove(stream);
      },
    });

  return async (request: Request, { keepOpen, draining }: EdgeBindings, source: string | null): Promise<Response> => {
    const filter = readFilter(new URL(request.url).searchParams, source);
    if (streams.size() + starting >= MAX_STREAMS)
      throw new PinflowError('overloaded', `${MAX_STREAMS} streams of feedback are open already: close one`);
    starting++;
    try {
      const next = await startOf(request);
      if (draining?.aborted) throw new PinflowError('overloaded', 'the edge is being stopped: ask again in a moment');
      // A HEAD is dispatched as a GET whose body nobody will ever read or cancel.
      if (request.method === 'HEAD') return new Response(null, { headers: { 'Content-Type': 'text/event-stream' } });
      keepOpen?.(request);
      return open(next, filter, request, draining);
    } finally {
      starting--;
    }
  };
};
