import { readReject } from '../blob/archive-line.ts';
import { type ArchiveText, eachRecord } from '../blob/archive-object.ts';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import { type CleanPin, cleanPin } from '../pin/clean.ts';
import { writeTimestamp } from '../pin/pin.ts';
import { countCleaned, countReject, countSetAside, emptyQuality, type Quality } from '../pin/quality.ts';

/** A line that is no pin: the record as it was in the log, and why. */
export type RejectedLine = { readonly offset: number; readonly reason: string; readonly value: Uint8Array };

export type LineCounts = {
  /** Lines that are pins. */
  readonly pins: number;
  /** Of those, with a field that should be there and is not. */
  readonly errors: number;
  readonly rejected: readonly RejectedLine[];
  readonly quality: Quality;
};

export type CleanedLines = LineCounts & {
  /** One for each id: the version with the highest (write timestamp, offset). */
  readonly rows: readonly PinRow[];
};

/** "the record is not JSON: Unexpected identifier" → what all such have in common. */
const withoutDetail = (reason: string): string => reason.replace(/:.*$/s, '');

/**
 * Cleans the lines of an object, whose offsets rise.
 * @param each gets every pin there is, also of an id that comes again
 */
export const cleanEachLine = async (
  object: Pick<ArchiveText, 'runs' | 'text'>,
  each: (cleaned: CleanPin, offset: number) => void,
): Promise<LineCounts> => {
  const rejected: RejectedLine[] = [];
  const quality = emptyQuality();
  let errors = 0;
  await eachRecord(object, (decoded, offset, bytes) => {
    if (!decoded.ok) {
      const line = bytes();
      const wrapped = readReject(line);
      if (wrapped === null) countReject(quality, decoded.reject);
      else countSetAside(quality, withoutDetail(wrapped.reason));
      rejected.push({ offset, ...(wrapped ?? { reason: decoded.reject.reason, value: line }) });
      return;
    }
    const cleaned = cleanPin(decoded.value);
    countCleaned(quality, decoded.value, cleaned);
    if (cleaned.isError) errors++;
    each(cleaned, offset);
  });
  return { pins: quality.pins, errors, rejected, quality };
};

/** An object → rows. */
export const cleanLines = async (object: Omit<ArchiveText, 'pins'>): Promise<CleanedLines> => {
  const { partition } = object;
  const rows = new Map<string, PinRow>();
  const counts = await cleanEachLine(object, (cleaned, offset) => {
    const timestamp = writeTimestamp(cleaned.receivedAtMicros, offset);
    const held = rows.get(cleaned.uniqueId);
    if (held !== undefined && held.writeTimestamp > timestamp) return;
    rows.set(cleaned.uniqueId, { ...cleaned, position: { partition, offset }, writeTimestamp: timestamp });
  });
  return { ...counts, rows: [...rows.values()] };
};
