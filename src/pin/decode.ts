import { isUtf8 } from 'node:buffer';
import { jsonSlices, memberName } from './json-slices.ts';
import { isPin, type Pin, pinSchema, type StoredPin } from './pin.ts';
import { parseMicros, STAMP_BYTES, writeMicros } from './timestamp.ts';

/** One field that is wrong and what it should be. `field` is `$` for the body as a whole. */
export type FieldIssue = { readonly field: string; readonly message: string };

/** An input that cannot become a pin, and why. It is kept with its reason, never dropped. */
export type Reject = {
  readonly code: 'malformed_json' | 'invalid_pin';
  readonly reason: string;
  readonly issues: readonly FieldIssue[];
};

export type Accepted = {
  /** Lower-case UUID: the identity of the pin and its key in the log. */
  readonly uniqueId: string;
  /** One line of JSON, UTF-8: the bytes as sent, with `received_at`. */
  readonly line: Uint8Array<ArrayBuffer>;
};

type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reject: Reject };

/** What a record of the log is, or why it is no pin. */
export type DecodedRecord = Result<StoredPin>;

const utf8 = new TextDecoder('utf-8', { fatal: true });

const malformed = (reason: string): { ok: false; reject: Reject } => ({
  ok: false,
  reject: { code: 'malformed_json', reason, issues: [{ field: '$', message: reason }] },
});

const invalid = (issues: readonly FieldIssue[]): { ok: false; reject: Reject } => ({
  ok: false,
  reject: { code: 'invalid_pin', reason: issues.map((i) => `${i.field} ${i.message}`).join('; '), issues },
});

/** Bytes → text. Null when they are not UTF-8. */
export const decodeUtf8 = (bytes: Uint8Array): string | null => {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
};

const parseJson = (text: string): Result<unknown> => {
  try {
    return { ok: true, value: JSON.parse(text) as unknown };
  } catch (error) {
    const detail = error instanceof Error ? error.message.replace(/^JSON Parse error: /, '') : 'it does not parse';
    return malformed(`the body is not JSON: ${detail}`);
  }
};

/** Checks a parsed value against the pin schema; every wrong field is named, not only the first. */
export const checkPin = (value: unknown): Result<Pin> => {
  if (isPin(value)) return { ok: true, value };
  const issues = pinSchema.safeParse(value).error?.issues ?? [];
  return invalid(issues.map((issue) => ({ field: issue.path.join('.') || '$', message: issue.message })));
};

const withoutReceivedAt = (text: string): string =>
  `{${jsonSlices(text)
    .filter((member) => memberName(member) !== 'received_at')
    .join(',')}}`;

const encoder = new TextEncoder();
const CLOSING_BRACE = 0x7d;
const SPACE = 0x20;
const LINE_BREAKS = [0x0a, 0x0d];
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/** What stands between a pin as sent, without its last brace, and the end of its line; the stamp is written over. */
const BEFORE_STAMP = encoder.encode(',"received_at":"').byteLength;
const ENDING = encoder.encode(`,"received_at":"${'0'.repeat(STAMP_BYTES)}"}`);

/** @param sent an object as JSON, in UTF-8 */
const stamped = (sent: Uint8Array, receivedAtMicros: number): Uint8Array<ArrayBuffer> => {
  const end = sent.lastIndexOf(CLOSING_BRACE);
  const line = Buffer.allocUnsafe(end + ENDING.byteLength);
  line.set(sent.subarray(0, end));
  for (const lineBreak of LINE_BREAKS) {
    for (let at = line.indexOf(lineBreak); at !== -1 && at < end; at = line.indexOf(lineBreak, at)) line[at] = SPACE;
  }
  writeMicros(ENDING, BEFORE_STAMP, receivedAtMicros);
  line.set(ENDING, end);
  return line;
};

const accept = (value: unknown, text: string, bytes: () => Uint8Array, receivedAtMicros: number): Result<Accepted> => {
  const checked = checkPin(value);
  if (!checked.ok) return checked;
  const sent = Object.hasOwn(checked.value, 'received_at') ? encoder.encode(withoutReceivedAt(text)) : bytes();
  return {
    ok: true,
    value: { uniqueId: checked.value.unique_id.toLowerCase(), line: stamped(sent, receivedAtMicros) },
  };
};

/**
 * Whether a line is a pin can be told without decoding its text: beyond ASCII UTF-8 has nothing that JSON gives a meaning,
 * so one character a byte parses to the same names, numbers and ids, and no text gets shorter. That takes half the time.
 * @returns null for what only its real text can judge: what is to be refused, and a `received_at` to cut out
 */
const acceptByShape = (bytes: Uint8Array, receivedAtMicros: number): Result<Accepted> | null => {
  if (!isUtf8(bytes)) return null;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1'));
  } catch {
    return null;
  }
  if (!isPin(value) || Object.hasOwn(value, 'received_at')) return null;
  return { ok: true, value: { uniqueId: value.unique_id.toLowerCase(), line: stamped(bytes, receivedAtMicros) } };
};

/**
 * What the edge does with one posted pin: checks it and stamps it.
 *
 * The line is the bytes as they were sent, with `received_at` put in before the last brace: unknown fields, number spellings
 * beyond 2^53 and escapes stay byte for byte. White space between tokens is the exception: line breaks become spaces,
 * so that a pin is one line. A `received_at` of the sender's own is cut out.
 */
export const acceptPin = (bytes: Uint8Array, receivedAtMicros: number): Result<Accepted> => {
  const quick = acceptByShape(bytes, receivedAtMicros);
  if (quick !== null) return quick;
  const text = decodeUtf8(bytes);
  if (text === null) return malformed('the body is not UTF-8');
  const parsed = parseJson(text);
  if (!parsed.ok) return parsed;
  // A byte order mark is no part of the text, and must not come to stand in the middle of an archive object.
  const sent = bytes[0] === BYTE_ORDER_MARK[0] ? bytes.subarray(BYTE_ORDER_MARK.length) : bytes;
  return accept(parsed.value, text, () => sent, receivedAtMicros);
};

/** As {@link acceptPin}, for a value that is parsed already; `text` is what it was parsed from. */
export const acceptParsedPin = (value: unknown, text: string, receivedAtMicros: number): Result<Accepted> =>
  accept(value, text, () => encoder.encode(text), receivedAtMicros);

/** A stamp no clock can have given counts as the oldest, so that it never wins over a real one. */
export const appendedMicros = (timestampMillis: number): number =>
  timestampMillis >= 0 && Number.isSafeInteger(timestampMillis * 1000) ? timestampMillis * 1000 : 0;

/** @param isUtf8Text false for a text that may have a lone surrogate */
const decodeText = (text: string, timestampMillis: number, isUtf8Text: boolean): DecodedRecord => {
  const parsed = parseJson(text);
  if (!parsed.ok) return parsed;
  const checked = checkPin(parsed.value);
  if (!checked.ok) return checked;
  const pin = checked.value as Pin & { received_at?: unknown; poster_name?: unknown };
  const stored: StoredPin = {
    category: pin.category,
    index: pin.index,
    unique_id: pin.unique_id.toLowerCase(),
    title: pin.title,
    description: pin.description,
    follower_count: pin.follower_count,
    tag_list: pin.tag_list,
    is_image_or_video: pin.is_image_or_video,
    image_src: pin.image_src,
    downloaded: pin.downloaded,
    save_location: pin.save_location,
    receivedAtMicros: parseMicros(pin.received_at) ?? appendedMicros(timestampMillis),
    posterName: typeof pin.poster_name === 'string' || pin.poster_name === null ? pin.poster_name : undefined,
    isStorable: isUtf8Text && !text.includes('\\u'),
  };
  return { ok: true, value: stored };
};

/**
 * What a worker does with one record of the log (or one line of the archive).
 * Not every producer is our edge: a record without a `received_at` takes the log's own timestamp.
 * @param timestampMillis when the record was appended, milliseconds since the Unix epoch
 */
export const decodeRecord = (value: Uint8Array | string, timestampMillis: number): DecodedRecord => {
  if (typeof value === 'string') return decodeText(value, timestampMillis, false);
  const text = decodeUtf8(value);
  return text === null ? malformed('the record is not UTF-8') : decodeText(text, timestampMillis, true);
};

const LINE_FEED = 0x0a;

/** Of the line that begins at `start`; the last one may lack its line feed. */
const endOfLine = (lines: Uint8Array, start: number): number => {
  const end = lines.indexOf(LINE_FEED, start);
  return end === -1 ? lines.length : end;
};

/**
 * As {@link decodeRecord} for each of some lines: to decode their text all at once takes a fourth of the time.
 * @param each gets what a line is, and its bytes if it wants them
 */
export const decodeLines = (
  lines: Uint8Array,
  each: (decoded: DecodedRecord, bytes: () => Uint8Array) => void,
): void => {
  let start = 0;
  let end = endOfLine(lines, 0);
  /** Lines from the one that `start` begins to the one that is decoded. */
  let behind = 0;
  const bytes = () => {
    for (; behind > 0; behind--) {
      start = end + 1;
      end = endOfLine(lines, start);
    }
    return lines.subarray(start, end);
  };
  const text = decodeUtf8(lines);
  for (let at = 0; at < (text ?? lines).length; behind++) {
    const next = text === null ? endOfLine(lines, at) : text.indexOf('\n', at);
    const decoded = text === null ? null : decodeText(next === -1 ? text.slice(at) : text.slice(at, next), 0, true);
    // A byte order mark, say, is no part of the text of a record, and one within the text of many.
    each(decoded?.ok ? decoded : decodeRecord(bytes(), 0), bytes);
    if (next === -1) return;
    at = next + 1;
  }
};
