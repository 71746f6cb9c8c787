import { PinflowError } from '../errors.ts';
import type { Metrics } from '../metrics.ts';

/** The bytes one request holds, from the first read of its body until its pins are durable or refused. */
export type Hold = { bytes: number };

/** Bounds the memory of all requests together. */
export type Pending = {
  /** @throws PinflowError `overloaded` when the edge would hold more than its bound; nothing is taken then */
  readonly take: (hold: Hold, bytes: number) => void;
  /** Gives back all a request holds. Idempotent. */
  readonly release: (hold: Hold) => void;
};

export const createPending = (maxBytes: number, gauge: Metrics['pendingBytes']): Pending => {
  let total = 0;
  return {
    take: (hold, bytes) => {
      if (total + bytes > maxBytes)
        throw new PinflowError(
          'overloaded',
          `${total} bytes of pins wait at the edge and MAX_PENDING_BYTES is ${maxBytes}: send again after a moment`,
          { retryable: true },
        );
      hold.bytes += bytes;
      total += bytes;
      gauge.set(total);
    },
    release: (hold) => {
      total -= hold.bytes;
      hold.bytes = 0;
      gauge.set(total);
    },
  };
};

/** How often deadlines are looked at, milliseconds: how late one may be noticed. */
const SWEEP_MS = 50;

type Wait = { readonly dueAt: number; readonly expire: () => void };

/**
 * One timer for the deadlines of all requests: a timer each is a tenth of the work of a small request.
 * It runs only while something waits.
 */
const waits = new Set<Wait>();
let sweep: ReturnType<typeof setInterval> | null = null;

const sweepOnce = (): void => {
  const now = performance.now();
  for (const wait of waits) if (wait.dueAt <= now) wait.expire();
  if (waits.size > 0 || sweep === null) return;
  clearInterval(sweep);
  sweep = null;
};

/**
 * `work`'s result, or a throw of `late()` once `ms` milliseconds (and up to 50 more) have passed.
 * `work` itself goes on; its late failure is silent.
 */
export const withDeadline = <T>(work: Promise<T>, ms: number, late: () => PinflowError): Promise<T> =>
  new Promise((resolve, reject) => {
    const expire = () => {
      waits.delete(wait);
      reject(late());
    };
    const wait: Wait = { dueAt: performance.now() + ms, expire };
    waits.add(wait);
    sweep ??= setInterval(sweepOnce, SWEEP_MS);
    work.then(
      (value) => {
        waits.delete(wait);
        resolve(value);
      },
      (error: unknown) => {
        waits.delete(wait);
        reject(error);
      },
    );
  });
