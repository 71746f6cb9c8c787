/** Arrays in PostgreSQL's text form (manual, "Array Input and Output Syntax"): one parameter carries a column of a batch. */

/** Numbers, UUIDs: nothing in them needs quoting. */
export const plainArray = (values: readonly (number | bigint | string | null)[]): string => {
  let text = '{';
  for (let i = 0; i < values.length; i++) text += `${i === 0 ? '' : ','}${values[i] ?? 'NULL'}`;
  return `${text}}`;
};

const quoted = (value: string): string =>
  value.includes('"') || value.includes('\\') ? `"${value.replace(/["\\]/g, '\\$&')}"` : `"${value}"`;

export const textArray = (values: readonly (string | null)[]): string => {
  let text = '{';
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? null;
    text += `${i === 0 ? '' : ','}${value === null ? 'NULL' : quoted(value)}`;
  }
  return `${text}}`;
};

/** Arrays of different lengths are no array of Postgres: each becomes text, to be cast `::text[]` row by row. */
export const arraysAsText = (values: readonly (readonly string[] | null)[]): string =>
  textArray(values.map((value) => (value === null ? null : textArray(value))));
