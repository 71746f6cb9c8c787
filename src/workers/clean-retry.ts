import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';

/** With these waits an engine may be away for three seconds within a run; away for longer, the next run takes it up. */
const ATTEMPTS = 5;
const BASE_MS = 200;
const MAX_MS = 2000;

/** Calls an engine, again while it says that this may help. Counted and logged under the engine's name. */
export type Retrying = <T>(engine: string, work: () => Promise<T>, signal: AbortSignal) => Promise<T>;

export const createRetrying =
  ({ metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger }): Retrying =>
  (engine, work, signal) =>
    retry(work, {
      attempts: ATTEMPTS,
      baseMs: BASE_MS,
      maxMs: MAX_MS,
      signal,
      onRetry: (error, attempt, waitMs) => {
        metrics.retries.inc({ engine });
        logger.warn(
          { engine, attempt, waitMs: Math.round(waitMs), error: messageOf(error) },
          'a call failed; again soon',
        );
      },
    });
