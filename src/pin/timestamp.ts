/** `received_at` as text: RFC 3339, UTC, six digits of a second. */
const STAMP = /^(\d{4}-\d{2}-\d{2}T[0-2]\d:[0-5]\d:)([0-5]\d)(?:\.(\d{1,9}))?Z$/;

/**
 * Stamps come in runs of the same second, and making or reading a date costs more than the rest of a stamp: both
 * directions remember the last one.
 */
const lastFormatted = { second: 0, text: '1970-01-01T00:00:00.' };
const lastParsed = { minute: '1970-01-01T00:00:', millis: 0 };

/** 123456 → "…:00.123456Z" @param micros microseconds since the Unix epoch, a safe integer */
export const formatMicros = (micros: number): string => {
  const second = Math.floor(micros / 1_000_000);
  if (second !== lastFormatted.second) {
    lastFormatted.text = new Date(second * 1000).toISOString().slice(0, -4);
    lastFormatted.second = second;
  }
  return `${lastFormatted.text}${String(micros - second * 1_000_000).padStart(6, '0')}Z`;
};

/** Bytes of {@link formatMicros}'s text, for the years 1000 to 9999. */
export const STAMP_BYTES = 27;

const ZERO = 0x30;
/** The last written stamp: from one to the next mostly its six last digits change. */
const written = { second: Number.NaN, bytes: new Uint8Array(STAMP_BYTES) };

/** Writes {@link formatMicros}'s text as ASCII to `target` from `at` on: several times as fast as making a text and encoding it. */
export const writeMicros = (target: Uint8Array, at: number, micros: number): void => {
  const second = Math.floor(micros / 1_000_000);
  if (second !== written.second) {
    new TextEncoder().encodeInto(formatMicros(micros), written.bytes);
    written.second = second;
  }
  let rest = micros - second * 1_000_000;
  for (let digit = STAMP_BYTES - 2; digit > STAMP_BYTES - 8; digit--) {
    written.bytes[digit] = ZERO + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  target.set(written.bytes, at);
};

/** "2026-11-23T18:01:" → milliseconds since the Unix epoch; null for a day or hour that does not exist. */
const parseMinute = (minute: string): number | null => {
  if (minute === lastParsed.minute) return lastParsed.millis;
  const millis = Date.parse(`${minute}00Z`);
  // Date.parse takes 30 February for 2 March.
  if (Number.isNaN(millis) || !new Date(millis).toISOString().startsWith(minute)) return null;
  lastParsed.minute = minute;
  lastParsed.millis = millis;
  return millis;
};

/** The last second read in {@link formatMicros}'s own form: of another stamp in it only the six digits are left to read. */
const lastSecond = { text: '1970-01-01T00:00:00.', micros: 0 };
const CAPITAL_Z = 0x5a;

/** A stamp in {@link formatMicros}'s own form and of the last second; null for any other. */
const inLastSecond = (text: string): number | null => {
  if (text.length !== STAMP_BYTES || !text.startsWith(lastSecond.text)) return null;
  if (text.charCodeAt(STAMP_BYTES - 1) !== CAPITAL_Z) return null;
  let micros = 0;
  for (let i = lastSecond.text.length; i < STAMP_BYTES - 1; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    if (digit < 0 || digit > 9) return null;
    micros = micros * 10 + digit;
  }
  const sum = lastSecond.micros + micros;
  return Number.isSafeInteger(sum) ? sum : null;
};

const parseStamp = (text: string): number | null => {
  const match = STAMP.exec(text);
  const millis = match === null ? null : parseMinute(match[1] as string);
  if (match === null || millis === null) return null;
  const second = millis * 1000 + Number(match[2]) * 1_000_000;
  const micros = second + Number((match[3] ?? '').padEnd(6, '0').slice(0, 6));
  if (!Number.isSafeInteger(micros)) return null;
  if (text.length === STAMP_BYTES) Object.assign(lastSecond, { text: text.slice(0, 20), micros: second });
  return micros;
};

/**
 * The inverse of {@link formatMicros}. Digits past the microsecond are cut.
 * @returns null for anything that is not such a stamp, and for one too far off for exact microseconds (after 2255)
 */
export const parseMicros = (text: unknown): number | null =>
  typeof text === 'string' ? (inLastSecond(text) ?? parseStamp(text)) : null;
