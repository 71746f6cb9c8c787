import { PinflowError } from '../errors.ts';
import type { Receipt } from '../log/inlet.ts';
import type { NewRecord } from '../log/log.ts';
import { sourceHeaders } from '../log/source.ts';
import { acceptParsedPin, acceptPin, decodeUtf8, type Reject } from '../pin/decode.ts';
import { jsonSlices } from '../pin/json-slices.ts';
import type { Position } from '../pin/pin.ts';
import type { BodyLimits } from './body.ts';
import type { EdgeDeps } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';
import type { Decoded, Intake } from './intake.ts';
import { type BodyKind, bodyKind } from './media-type.ts';

/** Pins decoded before other requests get their turn: about 5 ms of work. */
const SLICE_PINS = 2000;

const NEWLINE = 0x0a;
const SPACE = 0x20;

/** What should be a pin. */
type Candidate = {
  /** From 1, blank lines included. */
  readonly line: number;
  /** A line as it came, or an element of an array, parsed already, with the text it was parsed from. */
  readonly sent: Uint8Array | { readonly text: string; readonly value: unknown };
};

type Outcome =
  | { readonly line: number; readonly uniqueId: string }
  | {
      readonly line: number;
      readonly reject: Pick<Reject, 'issues'> & { readonly code: Reject['code'] | 'too_large' };
    };

const isBlank = (line: Uint8Array): boolean => line.every((byte) => byte <= SPACE);

const tooMany = (what: string, maxPins: number) =>
  new PinflowError('too_large', `${what} in one request: send at most ${maxPins} pins at once, or raise MAX_BULK_PINS`);

/**
 * Cut as bytes, and decoded line by line: a line that is not UTF-8 is refused alone, and the many lines of plain ASCII are
 * parsed as such, which is faster than one long text with a single accent in it.
 * Blank lines are skipped, but there may be no more of them than of pins: a body of nothing else would cost seconds.
 */
const ndjsonCandidates = (body: Uint8Array, maxPins: number): readonly Candidate[] => {
  const candidates: Candidate[] = [];
  for (let start = 0, line = 1; start < body.byteLength; line++) {
    const found = body.indexOf(NEWLINE, start);
    const end = found === -1 ? body.byteLength : found;
    const sent = body.subarray(start, end);
    if (!isBlank(sent)) candidates.push({ line, sent });
    if (candidates.length > maxPins || line > 2 * maxPins) throw tooMany(`more than ${maxPins} lines`, maxPins);
    start = end + 1;
  }
  return candidates;
};

const arrayCandidates = (body: Uint8Array, maxPins: number): readonly Candidate[] => {
  const text = decodeUtf8(body);
  if (text === null) throw new PinflowError('malformed_json', 'the body is not UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PinflowError('malformed_json', 'the body is not JSON; to have each pin judged alone send NDJSON', {
      cause: error,
    });
  }
  if (!Array.isArray(value))
    throw new PinflowError('invalid_pin', 'the body should be an array of pins; a single pin goes to POST /pin/');
  const values: readonly unknown[] = value;
  if (values.length > maxPins) throw tooMany(`${values.length} pins`, maxPins);
  return jsonSlices(text).map((slice, index) => ({ line: index + 1, sent: { text: slice, value: values[index] } }));
};

const TOO_LARGE = (maxBytes: number) => ({
  code: 'too_large' as const,
  issues: [{ field: '$', message: `is larger than ${maxBytes} bytes (MAX_PIN_BYTES)` }],
});

const bytesOf = (sent: Candidate['sent']): number =>
  sent instanceof Uint8Array ? sent.byteLength : Buffer.byteLength(sent.text);

const outcomeJson = (outcome: Outcome, position: Position | null): string =>
  'reject' in outcome
    ? JSON.stringify({ line: outcome.line, status: 'rejected', ...outcome.reject })
    : `{"line":${outcome.line},"status":"accepted","unique_id":"${outcome.uniqueId}","position":${position === null ? null : `"${position.partition}/${position.offset}"`}}`;

/** 200: all accepted; 207: some; 422: none. `position` is null for what is in the spool. */
const bulkResponse = (outcomes: readonly Outcome[], receipt: Receipt | null): Response => {
  const rejected = outcomes.reduce((sum, outcome) => sum + ('reject' in outcome ? 1 : 0), 0);
  const accepted = outcomes.length - rejected;
  let at = 0;
  const next = () => receipt?.positions?.[at++] ?? null;
  const list = outcomes.map((o) => outcomeJson(o, 'reject' in o ? null : next())).join(',\n');
  const error =
    accepted > 0
      ? ''
      : `"error":{"code":"invalid_pin","message":"${rejected === 0 ? 'the body holds no pin' : 'none of the pins can be taken: see outcomes'}"},`;
  const headers: Record<string, string> = { ...JSON_HEADERS };
  if (receipt !== null) headers['X-Pin-Durability'] = receipt.durability;
  return new Response(`{${error}"accepted":${accepted},"rejected":${rejected},"outcomes":[${list}]}`, {
    status: accepted === 0 ? 422 : rejected === 0 ? 200 : 207,
    headers,
  });
};

/**
 * `POST /pins`: many pins, as NDJSON or as a JSON array, plain or gzip. All that can be taken go to the log in one append;
 * the answer has an outcome for each, by its line (its place in the array, from 1).
 */
export const createPostPins = (
  deps: Pick<EdgeDeps, 'stamp' | 'limits'>,
  intake: Intake,
): ((request: Request, source: string | null) => Promise<Response>) => {
  const { stamp, limits } = deps;
  const bodyLimits: BodyLimits = {
    maxBytes: Math.min(limits.MAX_BODY_BYTES, limits.MAX_PENDING_BYTES),
    setting: 'MAX_BODY_BYTES',
    timeoutMs: limits.REQUEST_TIMEOUT_MS,
    gzip: true,
  };

  const judge = ({ line, sent }: Candidate, from: Pick<NewRecord, 'headers'>, records: NewRecord[]): Outcome => {
    if (bytesOf(sent) > limits.MAX_PIN_BYTES) return { line, reject: TOO_LARGE(limits.MAX_PIN_BYTES) };
    const result =
      sent instanceof Uint8Array ? acceptPin(sent, stamp()) : acceptParsedPin(sent.value, sent.text, stamp());
    if (!result.ok) return { line, reject: { code: result.reject.code, issues: result.reject.issues } };
    const { uniqueId } = result.value;
    records.push({ key: uniqueId, value: result.value.line, ...from });
    return { line, uniqueId };
  };

  const decode = async (kind: BodyKind, body: Uint8Array, source: string | null): Promise<Decoded> => {
    const candidatesOf = kind === 'ndjson' ? ndjsonCandidates : arrayCandidates;
    const candidates = candidatesOf(body, limits.MAX_BULK_PINS);
    const from = sourceHeaders(source);
    const records: NewRecord[] = [];
    const outcomes: Outcome[] = [];
    for (const candidate of candidates) {
      outcomes.push(judge(candidate, from, records));
      if (outcomes.length % SLICE_PINS === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return {
      records,
      rejected: outcomes.length - records.length,
      answer: (receipt) => bulkResponse(outcomes, receipt),
    };
  };

  return async (request, source) => {
    const kind = bodyKind(request.headers.get('content-type'), ['json', 'ndjson']);
    return intake(request, bodyLimits, (body) => decode(kind, body, source));
  };
};
