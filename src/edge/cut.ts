/** The first `maxChars` characters of a text that is longer, and an ellipsis: a pin's may be as long as the pin. */
export const cut = (text: string | null, maxChars: number): string | null =>
  text !== null && text.length > maxChars ? `${text.slice(0, maxChars).toWellFormed()}…` : text;
