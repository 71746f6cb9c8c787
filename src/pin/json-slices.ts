const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN = new Set([0x5b, 0x7b]);
const CLOSE = new Set([0x5d, 0x7d]);

/** Index just past the string that opens at `start`. */
const afterString = (text: string, start: number): number => {
  for (let i = start + 1; ; i++) {
    const code = text.charCodeAt(i);
    if (code === BACKSLASH) i++;
    else if (code === QUOTE || Number.isNaN(code)) return i + 1;
  }
};

/**
 * The texts between the commas of the outermost array or object: `[1, {"a":2}]` gives `1` and `{"a":2}`, trimmed.
 * Cutting the text, and not printing the parsed value, keeps numbers beyond 2^53, doubled keys and escapes as they were sent.
 * @param text valid JSON whose outermost value is an array or an object
 */
export const jsonSlices = (text: string): readonly string[] => {
  const slices: string[] = [];
  let depth = 0;
  let start = 0;
  const cut = (end: number) => {
    const slice = text.slice(start, end).trim();
    if (slice !== '') slices.push(slice);
    start = end + 1;
  };
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = afterString(text, i) - 1;
    else if (OPEN.has(code)) {
      if (++depth === 1) start = i + 1;
    } else if (CLOSE.has(code)) {
      if (--depth === 0) cut(i);
    } else if (code === COMMA && depth === 1) cut(i);
  }
  return slices;
};

/** Name of the member that a slice of an object is. */
export const memberName = (slice: string): string => JSON.parse(slice.slice(0, afterString(slice, 0))) as string;
