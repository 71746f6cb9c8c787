import { isUtf8 } from 'node:buffer';
import { messageOf } from '../errors.ts';
import { appendedMicros, decodeUtf8 } from '../pin/decode.ts';
import { jsonSlices, memberName } from '../pin/json-slices.ts';
import { formatMicros, parseMicros, STAMP_BYTES } from '../pin/timestamp.ts';

/**
 * A record of the log as one line of the archive. Every record becomes exactly one line of JSON with a usable `received_at`,
 * so that offsets can be counted off by lines and the batch layer sees the stamp the speed layer saw:
 *
 * - the edge's records are such lines already and stay byte for byte;
 * - a JSON object of another producer gets the log's timestamp as `received_at` if it has none, and spaces for line breaks;
 * - anything else is wrapped: `{"pinflow_reject":{"reason":"…","base64":"…"},"received_at":"…"}`.
 *
 * The same record must give the same line in every version of this program: objects are told apart by their first line.
 */
const STAMP_KEY = Buffer.from(',"received_at":"');
const STAMP_END = Buffer.from('"}');
const TAIL_BYTES = STAMP_KEY.length + STAMP_BYTES + STAMP_END.length;
const REJECT = 'pinflow_reject';

const OPEN_BRACE = 0x7b;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Text of the last stamp: filled byte by byte, as a view of each record would cost more than all else here. */
const stampBytes = Buffer.alloc(STAMP_BYTES);

const hasAt = (line: Uint8Array, at: number, wanted: Uint8Array): boolean => {
  for (let i = 0; i < wanted.length; i++) if (line[at + i] !== wanted[i]) return false;
  return true;
};

/**
 * The stamp the edge puts at the end of every line, or null. In a JSON object these bytes can be nothing else than its
 * last member: within a string the quotes would stand behind backslashes, and deeper down more braces would follow.
 */
const tailStamp = (line: Uint8Array): number | null => {
  const at = line.length - TAIL_BYTES;
  if (at < 1 || !hasAt(line, line.length - STAMP_END.length, STAMP_END) || !hasAt(line, at, STAMP_KEY)) return null;
  for (let i = 0; i < STAMP_BYTES; i++) stampBytes[i] = line[at + STAMP_KEY.length + i] as number;
  return parseMicros(stampBytes.toString('latin1'));
};

const isLine = (value: Uint8Array): boolean =>
  value[0] === OPEN_BRACE &&
  value.indexOf(LINE_FEED) < 0 &&
  value.indexOf(CARRIAGE_RETURN) < 0 &&
  tailStamp(value) !== null &&
  isUtf8(value);

const parseObject = (text: string): Readonly<Record<string, unknown>> | string => {
  try {
    const parsed: unknown = JSON.parse(text);
    const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
    return isObject ? (parsed as Record<string, unknown>) : 'the record is not a JSON object';
  } catch (error) {
    return `the record is not JSON: ${messageOf(error).replace(/^JSON Parse error: /, '')}`;
  }
};

/** The members as they were sent, but for a `received_at` that is of no use, and the stamp after them. */
const stampText = (text: string, stamp: string): string => {
  const members = jsonSlices(text).filter((member) => memberName(member) !== 'received_at');
  return `{${[...members, `"received_at":"${stamp}"`].join(',')}}`;
};

const rebuild = (value: Buffer, timestampMillis: number): string => {
  const stamp = formatMicros(appendedMicros(timestampMillis));
  const reject = (reason: string) =>
    JSON.stringify({ [REJECT]: { reason, base64: value.toString('base64') }, received_at: stamp });
  if (value.length === 0) return reject('the record is empty');
  const text = decodeUtf8(value);
  if (text === null) return reject('the record is not UTF-8');
  const object = parseObject(text);
  if (typeof object === 'string') return reject(object);
  const line = text.trim().replace(/[\r\n]+/g, ' ');
  return parseMicros(object.received_at) === null ? stampText(line, stamp) : line;
};

/**
 * @param value of a record, as it stands in the log
 * @param timestampMillis of the record, milliseconds since the Unix epoch
 * @returns the line without its line feed: UTF-8, one JSON object. The same bytes as `value` where they will do.
 */
export const archiveLine = (value: Uint8Array, timestampMillis: number): Uint8Array =>
  isLine(value) ? value : Buffer.from(rebuild(asBuffer(value), timestampMillis));

/** `received_at` of a line of {@link archiveLine}, microseconds since the Unix epoch. */
export const lineReceivedAt = (line: Uint8Array): number => {
  const stamp = tailStamp(line);
  if (stamp !== null) return stamp;
  return parseMicros((JSON.parse(asBuffer(line).toString()) as { received_at?: unknown }).received_at) ?? 0;
};

export type ArchivedReject = { readonly reason: string; readonly value: Uint8Array };

/** The record within a wrapped line and why it was wrapped; null for a line that is a record itself. */
export const readReject = (line: Uint8Array): ArchivedReject | null => {
  const text = asBuffer(line);
  if (!text.subarray(0, REJECT.length + 4).equals(Buffer.from(`{"${REJECT}":`))) return null;
  const object = parseObject(text.toString());
  // A pin may carry any unknown field, this one too: only the exact shape is a wrapper.
  if (typeof object === 'string' || Object.keys(object).join() !== `${REJECT},received_at`) return null;
  const { reason, base64 } = (object[REJECT] ?? {}) as { reason?: unknown; base64?: unknown };
  if (typeof reason !== 'string' || typeof base64 !== 'string') return null;
  return { reason, value: Buffer.from(base64, 'base64') };
};
