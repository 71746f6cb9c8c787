import { readReject } from '../blob/archive-line.ts';
import type { ArchivedLine } from '../blob/archive-object.ts';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { writeTimestamp } from '../pin/pin.ts';
import { countCleaned, countReject, countSetAside, emptyQuality, type Quality } from '../pin/quality.ts';
import { eachInTurns } from '../turns.ts';

/** Lines cleaned in one turn: some milliseconds, so that the rows of the object before keep flowing to the store. */
const LINES_PER_TURN = 1000;

/** A line that is no pin: the record as it was in the log, and why. */
export type RejectedLine = { readonly offset: number; readonly reason: string; readonly value: Uint8Array };

export type CleanedLines = {
  /** One for each id: the version with the highest (write timestamp, offset). */
  readonly rows: readonly PinRow[];
  /** Lines that are pins. */
  readonly pins: number;
  /** Of those, with a field that should be there and is not. */
  readonly errors: number;
  readonly rejected: readonly RejectedLine[];
  readonly quality: Quality;
};

/** "the record is not JSON: Unexpected identifier" → what all such have in common. */
const withoutDetail = (reason: string): string => reason.replace(/:.*$/s, '');

/** Lines of one partition, offsets rising → rows. */
export const cleanLines = async (partition: number, lines: readonly ArchivedLine[]): Promise<CleanedLines> => {
  const rows = new Map<string, PinRow>();
  const rejected: RejectedLine[] = [];
  const quality = emptyQuality();
  let errors = 0;
  await eachInTurns(lines, LINES_PER_TURN, ({ offset, line }) => {
    // Every line of the archive has its `received_at`.
    const decoded = decodeRecord(line, 0);
    if (!decoded.ok) {
      const wrapped = readReject(line);
      if (wrapped === null) countReject(quality, decoded.reject);
      else countSetAside(quality, withoutDetail(wrapped.reason));
      rejected.push({ offset, ...(wrapped ?? { reason: decoded.reject.reason, value: line }) });
      return;
    }
    const cleaned = cleanPin(decoded.value);
    countCleaned(quality, decoded.value, cleaned);
    if (cleaned.isError) errors++;
    const timestamp = writeTimestamp(cleaned.receivedAtMicros, offset);
    const held = rows.get(cleaned.uniqueId);
    if (held !== undefined && held.writeTimestamp > timestamp) return;
    rows.set(cleaned.uniqueId, { ...cleaned, position: { partition, offset }, writeTimestamp: timestamp });
  });
  return { rows: [...rows.values()], pins: lines.length - rejected.length, errors, rejected, quality };
};
