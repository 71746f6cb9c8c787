import type { LogRecord, NewRecord } from './log.ts';

/**
 * Who posted a pin: the name of its API key, never the key. It travels as a header of the record, so that the line stays as it was
 * sent (docs/adr/0007-source-in-a-header.md). Absent: posted without keys, or by another producer.
 */
const SOURCE_HEADER = 'pinflow-source';

/** As long as a name in API_KEYS may be, and nothing that a text of Postgres cannot hold: other producers write headers too. */
const isSource = (name: string) => /^[^\0]{1,64}$/.test(name) && name.isWellFormed();

/** Headers of what a source posts. @param source null: not known */
export const sourceHeaders = (source: string | null): Pick<NewRecord, 'headers'> =>
  source === null ? {} : { headers: { [SOURCE_HEADER]: source } };

/** The source of a record, or null. */
export const sourceOf = ({ headers }: Pick<LogRecord, 'headers'>): string | null => {
  const name = headers[SOURCE_HEADER];
  return name !== undefined && isSource(name) ? name : null;
};
