import type { LogRecord } from '../log/log.ts';
import { sourceOf } from '../log/source.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { missingReason } from '../pin/missing-reason.ts';
import type { StoredPin } from '../pin/pin.ts';
import { formatMicros } from '../pin/timestamp.ts';
import { cut } from './cut.ts';

/** Characters of a posted value, a category or a reason that a verdict shows. */
const MAX_TEXT = 200;

/** What cleaning says of one record of the log: the same rules on the same bytes as in the speed layer. */
export type Verdict = {
  /** Lower case; null for a record that is no pin. */
  readonly uniqueId: string | null;
  readonly category: string | null;
  /** Who posted it, or null. */
  readonly source: string | null;
  /** As JSON, for a client. */
  readonly json: string;
};

const postedValue = (pin: StoredPin, field: string): string | null => {
  const posted: unknown = field === 'poster_name' ? pin.posterName : (pin as Readonly<Record<string, unknown>>)[field];
  return typeof posted === 'string' ? cut(posted, MAX_TEXT) : null;
};

export const verdictOf = (record: LogRecord): Verdict => {
  const position = `${record.partition}/${record.offset}`;
  const decoded = decodeRecord(record.value, record.timestamp);
  if (!decoded.ok) {
    const json = JSON.stringify({ position, clean: false, rejected: cut(decoded.reject.reason, MAX_TEXT) });
    return { uniqueId: null, category: null, source: sourceOf(record), json };
  }
  const cleaned = cleanPin(decoded.value);
  const json = JSON.stringify({
    unique_id: cleaned.uniqueId,
    position,
    received_at: formatMicros(cleaned.receivedAtMicros),
    category: cut(cleaned.category, MAX_TEXT),
    clean: !cleaned.isError,
    errors: cleaned.errorFields.map((field) => ({
      field,
      posted: postedValue(decoded.value, field),
      reason: missingReason(field),
    })),
  });
  return { uniqueId: cleaned.uniqueId, category: cleaned.category, source: sourceOf(record), json };
};
