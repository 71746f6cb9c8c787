const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

export const NONE = '–';

export const count = (n: number | null | undefined): string => (n === null || n === undefined ? NONE : whole.format(n));

/** Pins a second: one digit behind the point while it is small. */
export const perSecond = (n: number | null): string =>
  n === null ? NONE : n >= 10_000 ? compact.format(n) : n >= 10 ? whole.format(Math.round(n)) : short.format(n);

/** @param n seconds */
export const duration = (n: number | null): string => {
  if (n === null) return NONE;
  if (n < 1) return `${short.format(n * 1000)} ms`;
  return n < 120 ? `${short.format(n)} s` : `${Math.round(n / 60)} min`;
};

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

export const time = (stamp: string | number): string => {
  const date = new Date(stamp);
  return Number.isNaN(date.getTime()) ? NONE : clock.format(date);
};

export const dateTime = (stamp: string): string => {
  const date = new Date(stamp);
  return Number.isNaN(date.getTime()) ? NONE : full.format(date);
};

/**
 * Pins are what strangers wrote: what would not show, or would turn the text around it, is shown as a sign (the pictures of
 * control characters, or its code point).
 */
export const visible = (text: string): string =>
  text.replace(/[\p{Cc}\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu, (char) => {
    const code = char.charCodeAt(0);
    if (char === '\n' || char === '\t') return char;
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `‹U+${code.toString(16).toUpperCase().padStart(4, '0')}›`;
  });

/** Any value of a pin or of a query as text. */
export const valueText = (value: unknown): string => {
  if (value === null || value === undefined) return NONE;
  if (typeof value === 'number') return String(value);
  return visible(typeof value === 'string' ? value : JSON.stringify(value));
};
