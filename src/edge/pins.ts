import { PinflowError } from '../errors.ts';
import type { Receipt } from '../log/inlet.ts';
import { sourceHeaders } from '../log/source.ts';
import { type Accepted, acceptPin, type Reject } from '../pin/decode.ts';
import type { BodyLimits } from './body.ts';
import type { EdgeBindings, EdgeDeps } from './deps.ts';
import { errorResponse, JSON_HEADERS, JSON_TYPE } from './error-response.ts';
import type { FeedbackWait } from './feedback-wait.ts';
import type { Decoded, Intake } from './intake.ts';
import { bodyKind } from './media-type.ts';
import { verdictOf } from './verdict.ts';

const refuse = (reject: Reject): Decoded => ({
  records: [],
  rejected: 1,
  answer: () => errorResponse(reject.code, reject.reason, { issues: reject.issues }),
});

/** Adds to `headers`, which may not be shared. */
const withReceipt = (headers: Record<string, string>, receipt: Receipt | null): Record<string, string> => {
  if (receipt === null) return headers;
  headers['X-Pin-Durability'] = receipt.durability;
  const position = receipt.positions?.[0];
  if (position !== undefined) headers['X-Pin-Position'] = `${position.partition}/${position.offset}`;
  return headers;
};

/** @throws PinflowError `bad_query` */
const readWait = (url: string): boolean => {
  const query = url.indexOf('?');
  const wait = query === -1 ? null : new URLSearchParams(url.slice(query)).get('wait');
  if (wait === null || wait === 'feedback') return wait !== null;
  throw new PinflowError('bad_query', '"wait" should be feedback: POST /pin/?wait=feedback');
};

/**
 * `POST /pin/`: one pin. 200 with the stored line as the body, once it is durable; `X-Pin-Durability` says where and
 * `X-Pin-Position` at what `<partition>/<offset>`; a pin in the spool has none yet.
 *
 * `POST /pin/?wait=feedback`: 200 with what `GET /feedback` says of this pin, once the speed view has handled it: clean, or which
 * fields are wrong and why. 202 when that is not known within FEEDBACK_WAIT_MS, or cannot be: `clean` is null then, and `reason`
 * says why. Both mean that the pin is durable, and have the same headers as without it.
 */
export const createPostPin = (
  deps: Pick<EdgeDeps, 'stamp' | 'limits'> & { readonly feedbackWait: FeedbackWait },
  intake: Intake,
): ((request: Request, bindings: EdgeBindings, source: string | null) => Promise<Response>) => {
  const { stamp, limits, feedbackWait } = deps;
  const bodyLimits: BodyLimits = {
    maxBytes: Math.min(limits.MAX_PIN_BYTES, limits.MAX_PENDING_BYTES),
    setting: 'MAX_PIN_BYTES',
    timeoutMs: limits.REQUEST_TIMEOUT_MS,
    gzip: false,
  };

  /** Holds the verdict while it waits, and not the pin, which may be large and is no longer counted. */
  const withFeedback = (
    { uniqueId, line }: Accepted,
    receipt: Receipt | null,
    request: Request,
    draining?: AbortSignal,
  ) => {
    const position = receipt?.positions?.[0];
    const headers = withReceipt({ ...JSON_HEADERS }, receipt);
    const unknown = (reason: string) => {
      const at = position === undefined ? null : `${position.partition}/${position.offset}`;
      return new Response(JSON.stringify({ unique_id: uniqueId, position: at, clean: null, reason }), {
        status: 202,
        headers,
      });
    };
    if (position === undefined) return unknown('it is in the spool until the broker is back');
    const { json } = verdictOf({ ...position, key: uniqueId, value: line, timestamp: 0, headers: {} });
    return feedbackWait(position, request.signal, draining).then((reason) =>
      reason === null ? new Response(json, { headers }) : unknown(reason),
    );
  };

  const stored = ({ line }: Accepted, receipt: Receipt | null) =>
    new Response(line, { headers: withReceipt({ 'Content-Type': JSON_TYPE }, receipt) });

  return async (request, { draining }, source) => {
    bodyKind(request.headers.get('content-type'), ['json']);
    const waits = readWait(request.url);
    return intake(request, bodyLimits, (body) => {
      const accepted = acceptPin(body, stamp());
      if (!accepted.ok) return refuse(accepted.reject);
      const { value } = accepted;
      return {
        records: [{ key: value.uniqueId, value: value.line, ...sourceHeaders(source) }],
        rejected: 0,
        answer: (receipt) => (waits ? withFeedback(value, receipt, request, draining) : stored(value, receipt)),
      };
    });
  };
};
