import { isPinflowError } from './errors.ts';

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
