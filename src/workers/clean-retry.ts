import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';
import type { WorkerStatus } from './protocol.ts';

/** With these waits an engine may be away for three seconds within a run; away for longer, the next run takes it up. */
const ATTEMPTS = 5;
const BASE_MS = 200;
const MAX_MS = 2000;

/**
 * Calls an engine, again while it says that this may help. Counted and logged under the engine's name; meanwhile the worker says
 * that it waits: an engine that hangs may take a minute to use up its attempts.
 */
export type Retrying = <T>(engine: string, work: () => Promise<T>, signal: AbortSignal) => Promise<T>;

type RetryDeps = {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** (Default: nobody is told, as of a command.) */
  readonly status?: (status: WorkerStatus) => void;
};

export const createRetrying = ({ metrics, logger, status = () => {} }: RetryDeps): Retrying => {
  const troubled = new Set<symbol>();
  return async (engine, work, signal) => {
    const call = Symbol(engine);
    try {
      return await retry(work, {
        attempts: ATTEMPTS,
        baseMs: BASE_MS,
        maxMs: MAX_MS,
        signal,
        onRetry: (error, attempt, waitMs) => {
          const reason = messageOf(error);
          troubled.add(call);
          metrics.retries.inc({ engine });
          logger.warn({ engine, attempt, waitMs: Math.round(waitMs), error: reason }, 'a call failed; again soon');
          status({ state: 'waiting', reason });
        },
      });
    } finally {
      if (troubled.delete(call) && troubled.size === 0) status({ state: 'ready' });
    }
  };
};
