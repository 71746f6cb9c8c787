import { type CleanPin, PLACEHOLDERS } from './clean.ts';
import type { FieldIssue, Reject } from './decode.ts';
import type { StoredPin } from './pin.ts';

/** What cleaning met, as counts; every key comes from a fixed set. Fields are called as posted. */
export type QualityReport = {
  /** Pins that were looked at, whether or not a rule applied. */
  readonly pins: number;
  /** By field, then by the placeholder's text: how often it became null. */
  readonly placeholders: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** By rule: how many pins it changed. */
  readonly rules: Readonly<Record<string, number>>;
  /** By reason: how many lines, rows and objects were set aside. */
  readonly rejects: Readonly<Record<string, number>>;
  /** By field: how often it was missing after cleaning. */
  readonly missing: Readonly<Record<string, number>>;
};

/** Distinct reject reasons kept apart; more are counted as `other`. Reasons are few: this bounds a mistake. */
const MAX_REASONS = 50;

/** Counts while objects are cleaned; mutable, cheap to add to. */
export type Quality = {
  pins: number;
  readonly placeholders: Map<string, Map<string, number>>;
  readonly rules: Map<string, number>;
  readonly rejects: Map<string, number>;
  readonly missing: Map<string, number>;
};

export const emptyQuality = (): Quality => ({
  pins: 0,
  placeholders: new Map(),
  rules: new Map(),
  rejects: new Map(),
  missing: new Map(),
});

const bump = (counts: Map<string, number>, key: string, by = 1): void =>
  void counts.set(key, (counts.get(key) ?? 0) + by);

const bumpBounded = (counts: Map<string, number>, key: string, by = 1): void =>
  bump(counts, counts.has(key) || counts.size < MAX_REASONS ? key : 'other', by);

const countPlaceholder = (quality: Quality, field: string, text: string): void => {
  const texts = quality.placeholders.get(field) ?? new Map<string, number>();
  quality.placeholders.set(field, texts);
  bump(texts, text);
};

const isPlaceholder = (field: keyof typeof PLACEHOLDERS, text: string): boolean =>
  (PLACEHOLDERS[field] as readonly string[]).includes(text);

/** A text that cleaning changed: to null as a placeholder, or to another text because it could not be stored. */
const countText = (
  quality: Quality,
  field: keyof typeof PLACEHOLDERS,
  posted: string | null | undefined,
  cleaned: string | null,
): void => {
  if (posted === cleaned || posted === null || posted === undefined) return;
  if (cleaned === null) countPlaceholder(quality, field, posted);
  else bump(quality.rules, 'storable_text');
};

const NINE = 0x39;

const countFollowers = (quality: Quality, posted: string | null, cleaned: bigint | null): void => {
  if (posted === null) return;
  if (cleaned === null) {
    if (isPlaceholder('follower_count', posted)) countPlaceholder(quality, 'follower_count', posted);
    else bump(quality.rules, 'follower_count_unreadable');
  } else if (posted.charCodeAt(posted.length - 1) > NINE || posted.includes(',') || posted.includes('.')) {
    bump(quality.rules, 'follower_count');
  }
};

const countTags = (quality: Quality, posted: string | null, cleaned: readonly string[] | null): void => {
  if (posted === null) return;
  if (cleaned !== null) bump(quality.rules, 'tag_list');
  else if (isPlaceholder('tag_list', posted)) countPlaceholder(quality, 'tag_list', posted);
  else bump(quality.rules, 'tag_list_empty');
};

/** Adds one pin: what it was and what cleaning made of it. */
export const countCleaned = (quality: Quality, posted: StoredPin, cleaned: CleanPin): void => {
  quality.pins++;
  countText(quality, 'title', posted.title, cleaned.title);
  countText(quality, 'description', posted.description, cleaned.description);
  countText(quality, 'image_src', posted.image_src, cleaned.imageSrc);
  countText(quality, 'poster_name', posted.posterName, cleaned.posterName);
  countFollowers(quality, posted.follower_count, cleaned.followerCount);
  countTags(quality, posted.tag_list, cleaned.tagList);
  if (posted.save_location !== cleaned.saveLocation) bump(quality.rules, 'save_location');
  for (const field of cleaned.errorFields) bump(quality.missing, field);
};

const issueReason = ({ field }: FieldIssue): string => `invalid_pin: ${field}`;

/** Adds a line that is no pin, under its code and the first wrong field: the words of the reason may hold text of the pin. */
export const countReject = (quality: Quality, reject: Pick<Reject, 'code' | 'issues'>): void => {
  const [first] = reject.issues;
  bumpBounded(quality.rejects, reject.code === 'invalid_pin' && first !== undefined ? issueReason(first) : reject.code);
};

/** Adds what was set aside for another reason than its own text, such as `refused by the store`. */
export const countSetAside = (quality: Quality, reason: string, by = 1): void => {
  if (by > 0) bumpBounded(quality.rejects, reason, by);
};

const addAll = (into: Map<string, number>, from: ReadonlyMap<string, number>): void => {
  for (const [key, by] of from) bumpBounded(into, key, by);
};

export const addQuality = (into: Quality, from: Quality): void => {
  into.pins += from.pins;
  for (const [field, texts] of from.placeholders) {
    const held = into.placeholders.get(field) ?? new Map<string, number>();
    into.placeholders.set(field, held);
    addAll(held, texts);
  }
  addAll(into.rules, from.rules);
  addAll(into.rejects, from.rejects);
  addAll(into.missing, from.missing);
};

const sorted = (counts: ReadonlyMap<string, number>): Readonly<Record<string, number>> =>
  Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));

/** As plain objects with sorted keys, for the ledger and for JSON. */
export const qualityReport = (quality: Quality): QualityReport => ({
  pins: quality.pins,
  placeholders: Object.fromEntries(
    [...quality.placeholders].sort(([a], [b]) => (a < b ? -1 : 1)).map(([field, texts]) => [field, sorted(texts)]),
  ),
  rules: sorted(quality.rules),
  rejects: sorted(quality.rejects),
  missing: sorted(quality.missing),
});
