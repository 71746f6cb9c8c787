import { isPinflowError, PinflowError } from '../errors.ts';
import type { Receipt } from '../log/inlet.ts';
import type { NewRecord } from '../log/log.ts';
import { withDeadline } from '../retry.ts';
import { type Span, TRACEPARENT, type Tracing } from '../tracing/tracing.ts';
import { type BodyLimits, readBody } from './body.ts';
import type { EdgeDeps } from './deps.ts';
import { createPending, type Hold } from './limits.ts';
import { observations, tallies } from './tally.ts';

/** What a route made of a body: records for the log and, once they are durable, the answer. */
export type Decoded = {
  readonly records: readonly NewRecord[];
  /** Inputs that cannot become a pin. */
  readonly rejected: number;
  /** @param receipt of `records`; null when there were none */
  readonly answer: (receipt: Receipt | null) => Response | Promise<Response>;
};

type Decode = (body: Uint8Array) => Decoded | Promise<Decoded>;

/** Body → records → durable → answer. An answer is made only after `append` resolved: that is the whole of the 2xx promise. */
export type Intake = (request: Request, limits: BodyLimits, decode: Decode) => Promise<Response>;

type IntakeDeps = Pick<EdgeDeps, 'inlet' | 'limits' | 'metrics' | 'tracing'>;

/** What the client did wrong is no failure of ours. */
const failureOf = (error: unknown) => (isPinflowError(error) && !error.retryable ? undefined : error);

/** Runs an intake in a span of the request, which it gets; what is refused ends the span with its code. */
const inSpan =
  (tracing: Tracing, take: (...of: [...Parameters<Intake>, Span]) => Promise<Response>): Intake =>
  async (request, limits, decode) => {
    const parent = request.headers.get(TRACEPARENT);
    const span = tracing.span(`POST ${new URL(request.url).pathname}`, { kind: 'server', parent });
    try {
      const response = await take(request, limits, decode, span);
      span.end({ attributes: { 'http.response.status_code': response.status } });
      return response;
    } catch (error) {
      const type = isPinflowError(error) ? error.code : 'internal';
      span.end({ attributes: { 'error.type': type }, error: failureOf(error) });
      throw error;
    }
  };

const withHeader = (records: readonly NewRecord[], traceparent: string): readonly NewRecord[] =>
  records.map((record) => ({ ...record, headers: { ...record.headers, [TRACEPARENT]: traceparent } }));

export const createIntake = (deps: IntakeDeps): Intake => {
  const { inlet, limits, metrics, tracing } = deps;
  const pending = createPending(limits.MAX_PENDING_BYTES, metrics.pendingBytes);
  const pinsOf = tallies(metrics.pinsAccepted);
  const [accepted, rejected, failed] = [
    pinsOf({ outcome: 'accepted' }),
    pinsOf({ outcome: 'rejected' }),
    pinsOf({ outcome: 'failed' }),
  ];
  const observeDurable = observations(metrics.durableSeconds);

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
    const release = () => pending.release(hold);
    try {
      const receipt = await withDeadline(inlet.append(records), limits.REQUEST_TIMEOUT_MS, late, release);
      const acked = receipt.positions?.length ?? records.length;
      if (acked !== records.length) throw new Error(`the log acked ${acked} of ${records.length} records`);
      observeDurable((performance.now() - startedAt) / 1000);
      return receipt;
    } catch (error) {
      failed(records.length);
      throw error;
    }
  };

  /** The append, as a part of the request's trace that the records carry on. */
  const appendInSpan = async (records: readonly NewRecord[], hold: Hold, request: Span): Promise<Receipt> => {
    const attributes = { 'messaging.batch.message_count': records.length };
    const span = tracing?.span('append', { kind: 'producer', parent: request.traceparent, attributes });
    try {
      const receipt = await append(span?.traceparent ? withHeader(records, span.traceparent) : records, hold);
      span?.end({ attributes: { 'pinflow.durability': receipt.durability } });
      return receipt;
    } catch (error) {
      span?.end({ error });
      throw error;
    }
  };

  const take = async (...[request, bodyLimits, decode, span]: [...Parameters<Intake>, Span?]): Promise<Response> => {
    const hold: Hold = { bytes: 0 };
    let decoded: Decoded;
    try {
      decoded = await decode(await readBody(request, bodyLimits, (bytes) => pending.take(hold, bytes)));
    } catch (error) {
      pending.release(hold);
      throw error;
    }
    if (decoded.rejected > 0) rejected(decoded.rejected);
    if (decoded.records.length === 0) {
      pending.release(hold);
      return decoded.answer(null);
    }
    const receipt = await (span ? appendInSpan(decoded.records, hold, span) : append(decoded.records, hold));
    accepted(decoded.records.length);
    return decoded.answer(receipt);
  };
  return tracing === undefined ? take : inSpan(tracing, take);
};
