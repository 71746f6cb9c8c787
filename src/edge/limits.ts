import { PinflowError } from '../errors.ts';
import type { Metrics } from '../metrics.ts';
import { shown } from './tally.ts';

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
  shown(gauge, () => total);
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
    },
    release: (hold) => {
      total -= hold.bytes;
      hold.bytes = 0;
    },
  };
};
