import { type Pin, pinSchema, type StoredPin } from './pin.ts';
import { formatMicros, parseMicros } from './timestamp.ts';

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
  /** One line of JSON: the bytes as sent, with `received_at`. */
  readonly line: string;
};

type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reject: Reject };

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
  const parsed = pinSchema.safeParse(value);
  if (parsed.success) return { ok: true, value: value as Pin };
  return invalid(parsed.error.issues.map((issue) => ({ field: issue.path.join('.') || '$', message: issue.message })));
};

/**
 * What the edge does with one posted pin: checks it and stamps it.
 *
 * The line is the text as it was sent, with `received_at` put in before the last brace: unknown fields, number spellings
 * beyond 2^53 and escapes stay byte for byte. White space between tokens is the exception: line breaks become spaces,
 * so that a pin is one line. A `received_at` of the sender's own is replaced (then, and only then, the text is written anew).
 */
export const acceptPin = (text: string, receivedAtMicros: number): Result<Accepted> => {
  const parsed = parseJson(text);
  return parsed.ok ? acceptParsedPin(parsed.value, text, receivedAtMicros) : parsed;
};

/** As {@link acceptPin}, for a value that is parsed already; `text` is what it was parsed from. */
export const acceptParsedPin = (value: unknown, text: string, receivedAtMicros: number): Result<Accepted> => {
  const checked = checkPin(value);
  if (!checked.ok) return checked;
  const stamp = formatMicros(receivedAtMicros);
  const uniqueId = checked.value.unique_id.toLowerCase();
  if (Object.hasOwn(checked.value, 'received_at')) {
    return { ok: true, value: { uniqueId, line: JSON.stringify({ ...checked.value, received_at: stamp }) } };
  }
  const body = text.slice(0, text.lastIndexOf('}')).replace(/[\r\n]+/g, ' ');
  return { ok: true, value: { uniqueId, line: `${body},"received_at":"${stamp}"}` } };
};

/**
 * What a worker does with one record of the log (or one line of the archive).
 * Not every producer is our edge: a record without a `received_at` takes the log's own timestamp.
 * @param timestampMillis when the record was appended, milliseconds since the Unix epoch
 */
export const decodeRecord = (value: Uint8Array | string, timestampMillis: number): Result<StoredPin> => {
  const text = typeof value === 'string' ? value : decodeUtf8(value);
  if (text === null) return malformed('the record is not UTF-8');
  const parsed = parseJson(text);
  if (!parsed.ok) return parsed;
  const checked = checkPin(parsed.value);
  if (!checked.ok) return checked;
  const pin = checked.value as Pin & { received_at?: unknown; poster_name?: unknown };
  return {
    ok: true,
    value: {
      ...pin,
      unique_id: pin.unique_id.toLowerCase(),
      receivedAtMicros: parseMicros(pin.received_at) ?? timestampMillis * 1000,
      posterName: typeof pin.poster_name === 'string' || pin.poster_name === null ? pin.poster_name : undefined,
    },
  };
};
