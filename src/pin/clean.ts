import type { StoredPin } from './pin.ts';

/** A cleaned pin: what both views store, under the stores' column names in camel case. */
export type CleanPin = {
  readonly uniqueId: string;
  /** Microseconds since the Unix epoch. */
  readonly receivedAtMicros: number;
  readonly category: string | null;
  /** The pin's `index`: a reserved word in SQL, so the stores call it `index_no`. */
  readonly indexNo: number;
  readonly title: string | null;
  readonly description: string | null;
  /** Fits a signed 64-bit integer. */
  readonly followerCount: bigint | null;
  /** Never empty: no tags are null, as Cassandra cannot tell an empty list from none. */
  readonly tagList: readonly string[] | null;
  readonly isImageOrVideo: string | null;
  readonly imageSrc: string | null;
  readonly downloaded: number;
  readonly saveLocation: string | null;
  readonly posterName: string | null;
  readonly isError: boolean;
  /** Fields (as posted) that should be there and are null after cleaning, in the pin's order. */
  readonly errorFields: readonly string[];
};

const USER_INFO_ERROR = 'User Info Error';
const INT64_MAX = 9_223_372_036_854_775_807n;

/** Text the scraper wrote where it found nothing; each becomes null in its own field only. */
export const PLACEHOLDERS = {
  follower_count: [USER_INFO_ERROR],
  poster_name: [USER_INFO_ERROR],
  title: ['No Title Data Available'],
  description: ['No description available', 'No description available Story format', 'Untitled'],
  image_src: ['Image src error.'],
  // Python: ','.join("No Tags Available")
  tag_list: ['N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e'],
} as const satisfies Record<string, readonly string[]>;

type PlaceholderField = keyof typeof PLACEHOLDERS;

/** Rule `placeholder`: a known placeholder of that field becomes null. */
export const dropPlaceholder = (field: PlaceholderField, text: string | null): string | null =>
  text !== null && (PLACEHOLDERS[field] as readonly string[]).includes(text) ? null : text;

/**
 * Rule `storable_text`: NUL (which Postgres refuses) and lone surrogates (which are not UTF-8) become U+FFFD.
 * The archive keeps them as they came.
 */
export const storableText = (text: string | null): string | null =>
  text === null || (text.isWellFormed() && !text.includes('\0'))
    ? text
    : text.toWellFormed().replaceAll('\0', '\uFFFD');

const FOLLOWERS = /^(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?([kmb])?$/i;
/** Zeros that each magnitude stands for. */
const MAGNITUDE: Readonly<Record<string, number>> = { k: 3, K: 3, m: 6, M: 6, b: 9, B: 9 };
/** Characters: the 19 digits that can fit, their commas, a fraction and a magnitude. No count is longer; hostile text could be. */
const FOLLOWERS_MAX = 40;

/** Digits and zeros → whole number; null when it does not fit a signed 64-bit integer. */
const scaled = (digits: string, zeros: number): bigint | null => {
  const count = Number(digits) * 10 ** zeros;
  // Below 2^53 the product is exact, and far cheaper than the same sum in bigints.
  if (Number.isSafeInteger(count)) return BigInt(count);
  const exact = BigInt(digits) * 10n ** BigInt(zeros);
  return exact > INT64_MAX ? null : exact;
};

const readFollowerCount = (text: string): bigint | null => {
  const count = text.trim();
  const match = count.length > FOLLOWERS_MAX ? null : FOLLOWERS.exec(count);
  if (match === null) return null;
  const zeros = MAGNITUDE[match[3] ?? ''] ?? 0;
  const whole = match[1]?.includes(',') ? match[1].replaceAll(',', '') : (match[1] ?? '');
  const fraction = match[2]?.replace(/0+$/, '') ?? '';
  return fraction.length > zeros ? null : scaled(whole + fraction, zeros - fraction.length);
};

/** Counts are few thousand different texts, and to read one costs six times as much as to look it up: all are forgotten beyond this many. */
const MAX_KNOWN_COUNTS = 4096;
const knownCounts = new Map<string, bigint | null>();

/**
 * Rule `follower_count`: "893k", "1.5k", "2M", "1B", "1,234" and plain digits become a whole number.
 * Null for anything else, for what is no whole number ("1.5", "1.2345k") and for what does not fit a signed 64-bit integer.
 */
export const parseFollowerCount = (text: string | null): bigint | null => {
  if (text === null) return null;
  if (text.length > FOLLOWERS_MAX) return readFollowerCount(text);
  const known = knownCounts.get(text);
  if (known !== undefined) return known;
  const count = readFollowerCount(text);
  if (knownCounts.size === MAX_KNOWN_COUNTS) knownCounts.clear();
  knownCounts.set(text, count);
  return count;
};

const SAVED = 'Local save in ';

/** Rule `save_location`: "Local save in /data/post" becomes "/data/post"; anything else stays. */
export const cleanSaveLocation = (text: string | null): string | null =>
  text?.startsWith(`${SAVED}/`) ? text.slice(SAVED.length) : text;

/** False for what `trim` certainly leaves: most tags need none of it. */
const mayBeSpace = (unit: number): boolean => !(unit > 0x20 && unit < 0x7f);

/** Rule `tag_list`: "one, two, three" becomes ["one","two","three"], trimmed, no empties; no tags are null. */
export const splitTags = (text: string | null): readonly string[] | null => {
  if (text === null) return null;
  const tags: string[] = [];
  for (let at = 0; at <= text.length; ) {
    const comma = text.indexOf(',', at);
    const end = comma === -1 ? text.length : comma;
    const tag =
      mayBeSpace(text.charCodeAt(at)) || mayBeSpace(text.charCodeAt(end - 1))
        ? text.slice(at, end).trim()
        : text.slice(at, end);
    if (tag !== '') tags.push(tag);
    at = end + 1;
  }
  return tags.length === 0 ? null : tags;
};

const same = (text: string | null): string | null => text;

/** JSON has a -0, which is equal to 0 and yet prints as another number. */
const withoutMinusZero = (int32: number): number => int32 | 0;

/** Of most pins: shared, as a list of its own for each of them is memory to collect. */
const NONE: readonly string[] = Object.freeze([]);

type Checked = Omit<CleanPin, 'isError' | 'errorFields'>;

const missingFields = (cleaned: Checked, posterIsMissed: boolean): readonly string[] => {
  const missing: string[] = [];
  if (cleaned.category === null) missing.push('category');
  if (cleaned.title === null) missing.push('title');
  if (cleaned.description === null) missing.push('description');
  if (cleaned.followerCount === null) missing.push('follower_count');
  if (cleaned.tagList === null) missing.push('tag_list');
  if (cleaned.isImageOrVideo === null) missing.push('is_image_or_video');
  if (cleaned.imageSrc === null) missing.push('image_src');
  if (cleaned.saveLocation === null) missing.push('save_location');
  if (posterIsMissed) missing.push('poster_name');
  return missing.length === 0 ? NONE : missing;
};

/** The one cleaning of pinflow: pure, total, the same for the batch and the speed layer. */
export const cleanPin = (pin: StoredPin): CleanPin => {
  const storable = pin.isStorable ? same : storableText;
  // Filled in place: a second object for each pin would cost as much as a rule.
  const cleaned = {
    uniqueId: pin.unique_id,
    receivedAtMicros: pin.receivedAtMicros,
    category: storable(pin.category),
    indexNo: withoutMinusZero(pin.index),
    title: storable(dropPlaceholder('title', pin.title)),
    description: storable(dropPlaceholder('description', pin.description)),
    followerCount: parseFollowerCount(dropPlaceholder('follower_count', pin.follower_count)),
    tagList: splitTags(storable(dropPlaceholder('tag_list', pin.tag_list))),
    isImageOrVideo: storable(pin.is_image_or_video),
    imageSrc: storable(dropPlaceholder('image_src', pin.image_src)),
    downloaded: withoutMinusZero(pin.downloaded),
    saveLocation: storable(cleanSaveLocation(pin.save_location)),
    posterName: storable(dropPlaceholder('poster_name', pin.posterName ?? null)),
    isError: false,
    errorFields: NONE,
  };
  // The poster's name is not one of the pin's 11 fields: it is missed only where the source has the field.
  cleaned.errorFields = missingFields(cleaned, pin.posterName !== undefined && cleaned.posterName === null);
  cleaned.isError = cleaned.errorFields !== NONE;
  return cleaned;
};
