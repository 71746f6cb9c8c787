import type { Receipt } from '../log/inlet.ts';
import { type Accepted, acceptPin, type Reject } from '../pin/decode.ts';
import type { BodyLimits } from './body.ts';
import type { EdgeDeps } from './deps.ts';
import { errorResponse, JSON_TYPE } from './error-response.ts';
import type { Decoded, Intake } from './intake.ts';
import { bodyKind } from './media-type.ts';

const refuse = (reject: Reject): Decoded => ({
  records: [],
  rejected: 1,
  answer: () => errorResponse(reject.code, reject.reason, { issues: reject.issues }),
});

const receiptHeaders = (receipt: Receipt | null): Record<string, string> => {
  if (receipt === null) return {};
  const headers: Record<string, string> = { 'X-Pin-Durability': receipt.durability };
  const position = receipt.positions?.[0];
  if (position !== undefined) headers['X-Pin-Position'] = `${position.partition}/${position.offset}`;
  return headers;
};

/**
 * `POST /pin/`: one pin. 200 with the stored line as the body, once it is durable; `X-Pin-Durability` says where and
 * `X-Pin-Position` at what `<partition>/<offset>`; a pin in the spool has none yet.
 */
export const createPostPin = (
  deps: Pick<EdgeDeps, 'stamp' | 'limits'>,
  intake: Intake,
): ((request: Request) => Promise<Response>) => {
  const { stamp, limits } = deps;
  const bodyLimits: BodyLimits = {
    maxBytes: Math.min(limits.MAX_PIN_BYTES, limits.MAX_PENDING_BYTES),
    setting: 'MAX_PIN_BYTES',
    timeoutMs: limits.REQUEST_TIMEOUT_MS,
    gzip: false,
  };
  const take = ({ uniqueId, line }: Accepted): Decoded => ({
    records: [{ key: uniqueId, value: line }],
    rejected: 0,
    answer: (receipt) => new Response(line, { headers: { 'Content-Type': JSON_TYPE, ...receiptHeaders(receipt) } }),
  });
  const decode = (body: Uint8Array): Decoded => {
    const accepted = acceptPin(body, stamp());
    return accepted.ok ? take(accepted.value) : refuse(accepted.reject);
  };
  return async (request) => {
    bodyKind(request.headers.get('content-type'), ['json']);
    return intake(request, bodyLimits, decode);
  };
};
