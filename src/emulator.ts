import { type Clock, systemClock } from './clock.ts';
import { createPace } from './emulator/pace.ts';
import { PinflowError } from './errors.ts';
import { sleep } from './retry.ts';

export type EmulateOptions = {
  /** Where the edge is, such as `http://127.0.0.1:8000`. */
  readonly url: string;
  /** JSON texts of pins, see `openSource`. */
  readonly source: AsyncIterable<string>;
  /** Pins a second, evenly spaced. (Default: the seed's random gaps of up to a second between requests.) */
  readonly rate?: number;
  /** Pins after which it stops. (Default: when the source ends.) */
  readonly count?: number;
  /** Pins in one request. One goes to POST /pin/, more go to POST /pins. (Default: 1) */
  readonly batch?: number;
  readonly apiKey?: string;
  /** Ends it: what is under way is waited for, but not tried again. */
  readonly signal?: AbortSignal;
  /** Told after each answer that settles a request, and after each that leads to another try. */
  readonly onProgress?: (tally: EmulateTally) => void;
  /** Milliseconds after which a request without an answer of worth is given up. (Default: 60,000) */
  readonly giveUpMs?: number;
  readonly clock?: Clock;
};

/** What became of the pins, and the answers got on the way. */
export type EmulateTally = {
  /** Pins the edge said are durable. */
  readonly accepted: number;
  /** Pins the edge refused. */
  readonly rejected: number;
  /** Pins given up on: they may be durable, or not. */
  readonly failed: number;
  /** Requests sent again. */
  readonly retries: number;
  /** Requests by status of the answer; 0 is no answer. Those sent again are counted each time. */
  readonly statuses: Readonly<Record<number, number>>;
};

/** Requests under way at once: enough to fill a group commit, few enough for any server. */
const MAX_IN_FLIGHT = 64;
/** Longer than the edge lets a request wait (REQUEST_TIMEOUT_MS), so that its answer is the one that counts. */
const ANSWER_TIMEOUT_MS = 30_000;
const GIVE_UP_MS = 60_000;
/** Wait before the second try, milliseconds; doubles up to the largest. A Retry-After goes before, up to the largest too. */
const RETRY_BASE_MS = 100;
const RETRY_MAX_MS = 5000;
/** Stands for a request without any answer. */
const NO_STATUS = 0;
/** The same request may be taken later, or was: the id makes a second post of a pin an update. */
const AGAIN = new Set([NO_STATUS, 408, 429, 502, 503, 504]);
/** No pin will ever be taken: the key or the URL is wrong. */
const HOPELESS = new Set([401, 403, 404, 405, 415]);

type Answer = { readonly status: number; readonly retryAfterMs: number | null; readonly body: string };
type Tally = { -readonly [K in keyof EmulateTally]: EmulateTally[K] } & { statuses: Record<number, number> };

const NO_ANSWER: Answer = { status: NO_STATUS, retryAfterMs: null, body: '' };

/** Seconds or a date, in milliseconds from now; null for neither. */
const retryAfterMs = (header: string | null, clock: Clock): number | null => {
  if (header === null) return null;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - clock.now();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
};

type Send = (lines: readonly string[]) => Promise<Answer>;

const createSend = ({ url, apiKey, clock = systemClock, batch = 1 }: EmulateOptions): Send => {
  const bulk = batch > 1;
  const target = new URL(bulk ? 'pins' : 'pin/', url.endsWith('/') ? url : `${url}/`);
  const headers: Record<string, string> = { 'Content-Type': bulk ? 'application/x-ndjson' : 'application/json' };
  if (apiKey !== undefined) headers.Authorization = `Bearer ${apiKey}`;
  return async (lines) => {
    try {
      const response = await fetch(target, {
        method: 'POST',
        headers,
        body: lines.join('\n'),
        redirect: 'manual',
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      });
      const wait = retryAfterMs(response.headers.get('retry-after'), clock);
      return { status: response.status, retryAfterMs: wait, body: await response.text() };
    } catch {
      return NO_ANSWER;
    }
  };
};

/** How many of a request's pins were taken: a bulk answer says so, any other stands for all of them. */
const acceptedOf = ({ status, body }: Answer, pins: number): number => {
  if (status < 200 || status > 299) return 0;
  if (pins === 1) return 1;
  try {
    const { accepted } = JSON.parse(body) as { readonly accepted?: unknown };
    return typeof accepted === 'number' ? accepted : 0;
  } catch {
    return 0;
  }
};

/** @throws PinflowError when no request will ever be taken */
const refuseHopeless = ({ status, body }: Answer, url: string): void => {
  if (!HOPELESS.has(status)) return;
  const hint = status === 401 || status === 403 ? 'check the API key' : 'check the URL of the edge';
  throw new PinflowError('config', `${url} answered ${status}: ${hint}. It said: ${body.slice(0, 200)}`);
};

/** Sends one request until its outcome is known, it is given up or the emulator is stopped. */
const createPost = (options: EmulateOptions, tally: Tally, signal: AbortSignal) => {
  const { url, giveUpMs = GIVE_UP_MS, clock = systemClock, onProgress } = options;
  const send = createSend(options);
  const settle = (pins: number, answer: Answer | null) => {
    const accepted = answer === null ? 0 : acceptedOf(answer, pins);
    tally.accepted += accepted;
    tally[answer === null ? 'failed' : 'rejected'] += pins - accepted;
    onProgress?.(tally);
  };
  return async (lines: readonly string[]): Promise<void> => {
    const giveUpAt = clock.now() + giveUpMs;
    for (let attempt = 1; ; attempt++) {
      const answer = await send(lines);
      tally.statuses[answer.status] = (tally.statuses[answer.status] ?? 0) + 1;
      refuseHopeless(answer, url);
      if (!AGAIN.has(answer.status)) return settle(lines.length, answer);
      const backoffMs = RETRY_BASE_MS * 2 ** (attempt - 1) * (1 - Math.random() * 0.2);
      const waitMs = Math.min(RETRY_MAX_MS, answer.retryAfterMs ?? backoffMs);
      if (clock.now() + waitMs > giveUpAt) return settle(lines.length, null);
      onProgress?.(tally);
      await sleep(waitMs, signal);
      if (signal.aborted) return settle(lines.length, null);
      tally.retries++;
    }
  };
};

/** The source in groups of `batch`, `count` posts in all. */
async function* batches(
  source: AsyncIterable<string>,
  batch: number,
  count: number,
): AsyncGenerator<readonly string[]> {
  let group: string[] = [];
  let taken = 0;
  if (count <= 0) return;
  for await (const line of source) {
    group.push(line);
    taken++;
    if (group.length >= batch || taken >= count) {
      yield group;
      group = [];
    }
    if (taken >= count) return;
  }
  if (group.length > 0) yield group;
}

/**
 * Posts pins to the edge as the users of the service would, until the source or `count` ends or `signal` aborts.
 * @returns what became of them
 * @throws PinflowError `config` when the edge will never take any: wrong URL or API key; whatever the source throws
 */
export const emulate = async (options: EmulateOptions): Promise<EmulateTally> => {
  const { source, rate, count = Number.POSITIVE_INFINITY, batch = 1, clock = systemClock } = options;
  const tally: Tally = { accepted: 0, rejected: 0, failed: 0, retries: 0, statuses: {} };
  const failed = new AbortController();
  const signal = options.signal === undefined ? failed.signal : AbortSignal.any([options.signal, failed.signal]);
  const pace = createPace(rate, clock);
  const post = createPost(options, tally, signal);
  const inFlight = new Set<Promise<void>>();
  const start = (lines: readonly string[]) => {
    const posting: Promise<void> = post(lines)
      .catch((error: unknown) => failed.abort(error))
      .finally(() => inFlight.delete(posting));
    inFlight.add(posting);
  };
  try {
    for await (const lines of batches(source, batch, count)) {
      const waitMs = pace(lines.length);
      if (waitMs > 0) await sleep(waitMs, signal);
      if (inFlight.size >= MAX_IN_FLIGHT) await Promise.race(inFlight);
      if (signal.aborted) break;
      start(lines);
    }
  } finally {
    await Promise.all(inFlight);
  }
  if (failed.signal.aborted) throw failed.signal.reason;
  return tally;
};
