import type { CleanPin } from '../../pin/clean.ts';
import type { Position } from '../../pin/pin.ts';

/** A row of the speed view: a cleaned pin, where it stands in the log, and which version of its id it is. */
export type SpeedPin = CleanPin & {
  readonly position: Position;
  /** Name of the API key it was posted with, or null. */
  readonly source: string | null;
  /** Microseconds, from `writeTimestamp`: the highest wins, and of equals the later offset. */
  readonly writeTimestamp: number;
};

/** Stands for a pin with any field missing. */
export const ANY_FIELD = '*';

export type WindowCount = {
  /** Microseconds since the Unix epoch, a whole minute. */
  readonly slideMicros: number;
  readonly category: string;
  /** Empty for all pins of the slide, {@link ANY_FIELD} for the erroneous ones, else the field that was missing. */
  readonly field: string;
  readonly pins: number;
};

/** Length of a slide. A window is two of them, in the view `pin_error_windows_sliding`. */
const SLIDE_MICROS = 60_000_000;
/** Characters. The category is part of a key, and a key of Postgres may have 2,704 bytes; pins themselves keep it whole. */
const WINDOW_CATEGORY_MAX = 200;

const isNewer = (a: SpeedPin, b: SpeedPin) =>
  a.writeTimestamp > b.writeTimestamp ||
  (a.writeTimestamp === b.writeTimestamp && a.position.offset > b.position.offset);

/** One row an id, the newest version: a statement of Postgres may touch a row only once. */
export const foldPins = (pins: readonly SpeedPin[]): readonly SpeedPin[] => {
  const newest = new Map<string, SpeedPin>();
  for (const pin of pins) {
    const other = newest.get(pin.uniqueId);
    if (other === undefined || isNewer(pin, other)) newest.set(pin.uniqueId, pin);
  }
  return [...newest.values()];
};

const windowCategory = (category: string | null): string =>
  category === null || category.length <= WINDOW_CATEGORY_MAX
    ? (category ?? '')
    : category.slice(0, WINDOW_CATEGORY_MAX).toWellFormed();

const compareText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Counts every record once, versions of the same id too. Sorted by key, so that two workers that count into the same
 * windows take the rows' locks in one order and cannot deadlock.
 */
export const countWindows = (pins: readonly SpeedPin[]): readonly WindowCount[] => {
  const slides = new Map<number, Map<string, Map<string, number>>>();
  for (const { receivedAtMicros, category, isError, errorFields } of pins) {
    const slide = Math.floor(receivedAtMicros / SLIDE_MICROS) * SLIDE_MICROS;
    const categories = slides.getOrInsertComputed(slide, () => new Map<string, Map<string, number>>());
    const counts = categories.getOrInsertComputed(windowCategory(category), () => new Map<string, number>());
    counts.set('', (counts.get('') ?? 0) + 1);
    if (!isError) continue;
    counts.set(ANY_FIELD, (counts.get(ANY_FIELD) ?? 0) + 1);
    for (const field of errorFields) counts.set(field, (counts.get(field) ?? 0) + 1);
  }
  const all: WindowCount[] = [];
  for (const [slideMicros, categories] of slides) {
    for (const [category, counts] of categories) {
      for (const [field, count] of counts) all.push({ slideMicros, category, field, pins: count });
    }
  }
  return all.sort(
    (a, b) => a.slideMicros - b.slideMicros || compareText(a.category, b.category) || compareText(a.field, b.field),
  );
};

/** Over all windows: erroneous pins under {@link ANY_FIELD}, and those that lacked each field. */
export const missingOf = (counts: readonly WindowCount[]): ReadonlyMap<string, number> => {
  const missing = new Map<string, number>();
  for (const { field, pins } of counts) if (field !== '') missing.set(field, (missing.get(field) ?? 0) + pins);
  return missing;
};
