/** `received_at` as text: RFC 3339, UTC, six digits of a second. */
const STAMP = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z$/;

/** 123456 → "…:01.123456Z" @param micros microseconds since the Unix epoch */
export const formatMicros = (micros: number): string => {
  const millis = Math.floor(micros / 1000);
  const rest = String(micros - millis * 1000).padStart(3, '0');
  return `${new Date(millis).toISOString().slice(0, -1)}${rest}Z`;
};

/** The inverse of {@link formatMicros}; null for anything that is not such a stamp. Digits past the microsecond are cut. */
export const parseMicros = (text: unknown): number | null => {
  if (typeof text !== 'string') return null;
  const match = STAMP.exec(text);
  if (match === null) return null;
  const seconds = Date.parse(`${match[1]}Z`);
  if (Number.isNaN(seconds)) return null;
  return seconds * 1000 + Number((match[2] ?? '').padEnd(6, '0').slice(0, 6));
};
