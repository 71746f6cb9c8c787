import { isPinflowError, type PinflowError } from './errors.ts';

export type RetryOptions = {
  /** Calls in all, the first included; Infinity retries until `signal` aborts. */
  readonly attempts: number;
  /** Wait before the second call, milliseconds; doubles from call to call up to `maxMs`, with up to 20 % taken off at random. */
  readonly baseMs: number;
  readonly maxMs: number;
  /** (Default: PinflowErrors that say so themselves.) */
  readonly retryable?: (error: unknown) => boolean;
  /** Told before each wait, so that a log line and a metric can say so. */
  readonly onRetry?: (error: unknown, attempt: number, waitMs: number) => void;
  readonly signal?: AbortSignal;
};

const sayRetryable = (error: unknown) => isPinflowError(error) && error.retryable;

/** Resolves after `ms` milliseconds, or at once when `signal` aborts. */
export const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener('abort', finish);
  });

/**
 * Waits for `work`, at most `ms` milliseconds: for an engine that may hang, where the end does not depend on it.
 * @throws what `work` throws in time; what it throws later is silent
 */
export const atMost = async (work: Promise<unknown>, ms: number): Promise<void> => {
  const settled = new AbortController();
  await Promise.race([work, sleep(ms, settled.signal)]).finally(() => settled.abort());
};

/** Calls `work` until it succeeds. @throws the last error when it is not retryable, attempts are used up or `signal` aborts */
export const retry = async <T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> => {
  const { attempts, baseMs, maxMs, retryable = sayRetryable, onRetry, signal } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      if (attempt >= attempts || signal?.aborted || !retryable(error)) throw error;
      const waitMs = Math.min(maxMs, baseMs * 2 ** (attempt - 1)) * (1 - Math.random() * 0.2);
      onRetry?.(error, attempt, waitMs);
      await sleep(waitMs, signal);
      if (signal?.aborted) throw error;
    }
  }
};

/** How often deadlines are looked at, milliseconds: how late one may be noticed. */
const SWEEP_MS = 50;

type Wait = {
  readonly dueAt: number;
  /** Null once it has settled: what settled would otherwise be kept until the next sweep. */
  expire: (() => void) | null;
};

/**
 * One timer for the deadlines of all requests: a timer each is a tenth of the work of a small request. A list that each sweep rids of
 * what has settled, as to take each wait out of a Set costs as much again. The timer runs only while something waits.
 */
let waits: Wait[] = [];
let sweep: ReturnType<typeof setInterval> | null = null;

const sweepOnce = (): void => {
  const now = performance.now();
  waits = waits.filter(({ dueAt, expire }) => {
    if (expire === null || dueAt > now) return expire !== null;
    expire();
    return false;
  });
  if (waits.length > 0 || sweep === null) return;
  clearInterval(sweep);
  sweep = null;
};

/**
 * `work`'s result, or a throw of `late()` once `ms` milliseconds (and up to 50 more) have passed.
 * `work` itself goes on; its late failure is silent.
 * @param settled called when `work` has ended, however late (Default: nobody waits for that)
 */
export const withDeadline = <T>(
  work: Promise<T>,
  ms: number,
  late: () => PinflowError,
  settled?: () => void,
): Promise<T> =>
  new Promise((resolve, reject) => {
    const wait: Wait = { dueAt: performance.now() + ms, expire: () => reject(late()) };
    waits.push(wait);
    sweep ??= setInterval(sweepOnce, SWEEP_MS);
    work.then(
      (value) => {
        wait.expire = null;
        settled?.();
        resolve(value);
      },
      (error: unknown) => {
        wait.expire = null;
        settled?.();
        reject(error);
      },
    );
  });
