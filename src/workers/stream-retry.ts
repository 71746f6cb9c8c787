import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';
import type { WorkerStatus } from './protocol.ts';

/** First wait after a failed call; doubles from call to call. Short, as a restarted server is back within a second. */
const BASE_MS = 50;
/** Longest wait: how late a server that is back is noticed. */
const MAX_MS = 2000;

/**
 * Calls an engine until it answers: a stream has nothing better to do than to wait for it. Says so by its status meanwhile.
 * @throws what is not retryable, and whatever came last once `signal` aborts
 */
export type Patiently = <T>(engine: 'postgres' | 'log', work: () => Promise<T>) => Promise<T>;

export const createPatiently = (
  deps: {
    readonly status: (status: WorkerStatus) => void;
    readonly metrics: Metrics;
    readonly logger: Logger;
  },
  signal: AbortSignal,
): Patiently => {
  const { status, metrics, logger } = deps;
  /** Calls that wait: partitions are handled side by side, and the worker is ready when none waits. */
  let waiting = 0;
  return async (engine, work) => {
    let waits = false;
    try {
      return await retry(work, {
        attempts: Number.POSITIVE_INFINITY,
        baseMs: BASE_MS,
        maxMs: MAX_MS,
        signal,
        onRetry: (error) => {
          const reason = messageOf(error);
          if (!waits) logger.warn({ engine, reason }, 'the stream worker waits and tries again');
          if (!waits) waiting++;
          waits = true;
          metrics.retries.inc({ engine });
          status({ state: 'waiting', reason });
        },
      });
    } finally {
      if (waits && --waiting === 0 && !signal.aborted) status({ state: 'ready' });
    }
  };
};
