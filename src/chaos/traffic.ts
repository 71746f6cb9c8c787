import type { Clock } from '../clock.ts';
import { generatePins } from '../emulator/generate.ts';
import { createPace } from '../emulator/pace.ts';
import { PinflowError } from '../errors.ts';
import type { Pin } from '../pin/pin.ts';
import { sleep } from '../retry.ts';

/** What was posted, and what the edge said of it. */
export type Traffic = {
  /** The `index` of the last acked version of each id: every version has another. */
  readonly acked: ReadonlyMap<string, number>;
  /** Pins that got a 2xx, versions of one id each on its own. */
  readonly posted: number;
  /** Requests by status; 0 is no answer. */
  readonly statuses: Readonly<Record<number, number>>;
  /** The longest time between two 2xx, milliseconds. */
  readonly longestGapMs: number;
};

export type TrafficOptions = {
  readonly url: string;
  /** Pins to post. */
  readonly pins: number;
  /** Over so many seconds, if the edge can. */
  readonly seconds: number;
  readonly seed: number;
  readonly clock: Clock;
  readonly apiKey?: string;
  /** Ends it: what has no 2xx yet is left. */
  readonly signal: AbortSignal;
};

/** Posting at once, each waiting for its answer. */
const CLIENTS = 8;
/** Pins of one request, in turn: one goes to POST /pin/, more go to POST /pins. */
const SIZES = [1, 20, 100, 1, 5, 250];
/** Every so-many-th pin is an id that was posted before. */
const UPDATE_EVERY = 10;
/** Above REQUEST_TIMEOUT_MS, so that the edge's own answer is the one that counts. */
const ANSWER_TIMEOUT_MS = 20_000;
const AGAIN_MS = 100;
/** The post may be taken later, or was; the same pin again is an update that changes nothing. */
const AGAIN = new Set([0, 408, 429, 503, 507]);

type Answer = { readonly status: number; readonly body: string };

const createSend = ({ url, apiKey }: TrafficOptions) => {
  const authorization: Record<string, string> = apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` };
  return async (pins: readonly Pin[]): Promise<Answer> => {
    const [path, type] = pins.length === 1 ? ['/pin/', 'application/json'] : ['/pins', 'application/x-ndjson'];
    try {
      const response = await fetch(`${url}${path}`, {
        method: 'POST',
        headers: { ...authorization, 'Content-Type': type },
        body: pins.map((pin) => JSON.stringify(pin)).join('\n'),
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      });
      return { status: response.status, body: await response.text() };
    } catch {
      return { status: 0, body: '' };
    }
  };
};

/** @returns whether all of the request's pins are acked. @throws PinflowError when they never will be */
const isAcked = ({ status, body }: Answer, pins: number): boolean => {
  if (AGAIN.has(status)) return false;
  const accepted = status !== 200 ? 0 : pins === 1 ? 1 : (JSON.parse(body) as { accepted: number }).accepted;
  if (accepted === pins) return true;
  throw new PinflowError('internal', `the edge answered ${status} to ${pins} right pins: ${body.slice(0, 300)}`);
};

/** Deals out requests: new pins and, among them, new versions of ids the same client had acked before. */
const createDealer = ({ pins, seed }: TrafficOptions) => {
  const generated = generatePins({ seed });
  let serial = 0;
  let requests = 0;
  return (acked: readonly string[]): readonly Pin[] => {
    const size = Math.min(pins - serial, SIZES[requests++ % SIZES.length] ?? 1);
    return Array.from({ length: Math.max(0, size) }, () => {
      serial++;
      const known = serial % UPDATE_EVERY === 0 ? acked[serial % acked.length] : undefined;
      const pin = { ...generated.next().value, index: serial };
      return known === undefined ? pin : { ...pin, unique_id: known };
    });
  };
};

/**
 * Posts pins, each until it has its 2xx. A client has one request under way and updates its own ids only, so that of each id
 * the last version is known. @throws PinflowError when the edge refuses a right pin
 */
export const postPins = async (options: TrafficOptions): Promise<Traffic> => {
  const { clock, signal } = options;
  const acked = new Map<string, number>();
  const statuses: Record<number, number> = {};
  const send = createSend(options);
  const deal = createDealer(options);
  const pace = createPace(options.pins / options.seconds, clock);
  let [posted, longestGapMs, lastAckAt] = [0, 0, clock.now()];

  const untilAcked = async (pins: readonly Pin[]): Promise<boolean> => {
    while (!signal.aborted) {
      const answer = await send(pins);
      statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
      if (isAcked(answer, pins.length)) return true;
      await sleep(AGAIN_MS, signal);
    }
    return false;
  };

  const client = async () => {
    const own: string[] = [];
    for (let pins = deal(own); pins.length > 0; pins = deal(own)) {
      await sleep(pace(pins.length), signal);
      if (!(await untilAcked(pins))) return;
      const now = clock.now();
      longestGapMs = Math.max(longestGapMs, now - lastAckAt);
      lastAckAt = now;
      posted += pins.length;
      for (const { unique_id, index } of pins) {
        if (!acked.has(unique_id)) own.push(unique_id);
        acked.set(unique_id, index);
      }
    }
  };

  await Promise.all(Array.from({ length: CLIENTS }, client));
  return { acked, posted, statuses, longestGapMs };
};
