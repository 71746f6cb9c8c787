import { PinflowError } from '../errors.ts';
import type { Receipt } from '../log/inlet.ts';
import type { NewRecord } from '../log/log.ts';
import { withDeadline } from '../retry.ts';
import { type BodyLimits, readBody } from './body.ts';
import type { EdgeDeps } from './deps.ts';
import { createPending, type Hold } from './limits.ts';

/** What a route made of a body: records for the log and, once they are durable, the answer. */
export type Decoded = {
  readonly records: readonly NewRecord[];
  /** Inputs that cannot become a pin. */
  readonly rejected: number;
  /** @param receipt of `records`; null when there were none */
  readonly answer: (receipt: Receipt | null) => Response;
};

type Decode = (body: Uint8Array) => Decoded | Promise<Decoded>;

/** Body → records → durable → answer. An answer is made only after `append` resolved: that is the whole of the 2xx promise. */
export type Intake = (request: Request, limits: BodyLimits, decode: Decode) => Promise<Response>;

export const createIntake = (deps: Pick<EdgeDeps, 'inlet' | 'limits' | 'metrics'>): Intake => {
  const { inlet, limits, metrics } = deps;
  const pending = createPending(limits.MAX_PENDING_BYTES, metrics.pendingBytes);

  const late = () =>
    new PinflowError(
      'timeout',
      `the pins were not durable within ${limits.REQUEST_TIMEOUT_MS} ms (REQUEST_TIMEOUT_MS); they may still become so, ` +
        'and sending them again is safe: a pin is known by its unique_id',
      { retryable: true },
    );

  /** The hold is given back when the inlet is done with the bytes, which may be long after the deadline. */
  const append = async (records: readonly NewRecord[], hold: Hold): Promise<Receipt> => {
    const startedAt = performance.now();
    try {
      const appended = Promise.try(() => inlet.append(records));
      const release = () => pending.release(hold);
      appended.then(release, release);
      const receipt = await withDeadline(appended, limits.REQUEST_TIMEOUT_MS, late);
      const acked = receipt.positions?.length ?? records.length;
      if (acked !== records.length) throw new Error(`the log acked ${acked} of ${records.length} records`);
      metrics.durableSeconds.observe((performance.now() - startedAt) / 1000);
      return receipt;
    } catch (error) {
      metrics.pinsAccepted.inc({ outcome: 'failed' }, records.length);
      throw error;
    }
  };

  return async (request, bodyLimits, decode) => {
    const hold: Hold = { bytes: 0 };
    let decoded: Decoded;
    try {
      decoded = await decode(await readBody(request, bodyLimits, (bytes) => pending.take(hold, bytes)));
    } catch (error) {
      pending.release(hold);
      throw error;
    }
    if (decoded.rejected > 0) metrics.pinsAccepted.inc({ outcome: 'rejected' }, decoded.rejected);
    if (decoded.records.length === 0) {
      pending.release(hold);
      return decoded.answer(null);
    }
    const receipt = await append(decoded.records, hold);
    metrics.pinsAccepted.inc({ outcome: 'accepted' }, decoded.records.length);
    return decoded.answer(receipt);
  };
};
