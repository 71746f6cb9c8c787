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
  text === null ? null : text.toWellFormed().replaceAll('\0', '\uFFFD');

const FOLLOWERS = /^(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?([kmb])?$/i;
const MAGNITUDE: Readonly<Record<string, number>> = { k: 3, m: 6, b: 9 };

/**
 * Rule `follower_count`: "893k", "1.5k", "2M", "1B", "1,234" and plain digits become a whole number.
 * Null for anything else, for what is no whole number ("1.5", "1.2345k") and for what does not fit a signed 64-bit integer.
 */
export const parseFollowerCount = (text: string | null): bigint | null => {
  const match = text === null ? null : FOLLOWERS.exec(text.trim());
  if (match === null) return null;
  const whole = (match[1] ?? '').replaceAll(',', '');
  const zeros = MAGNITUDE[(match[3] ?? '').toLowerCase()] ?? 0;
  const fraction = (match[2] ?? '').replace(/0+$/, '');
  // 19 digits and a magnitude are the most that can fit; longer ones are not worth a BigInt of their length.
  if (fraction.length > zeros || whole.replace(/^0+/, '').length > 19) return null;
  const count = BigInt(whole + fraction.padEnd(zeros, '0'));
  return count > INT64_MAX ? null : count;
};

const SAVED = 'Local save in ';

/** Rule `save_location`: "Local save in /data/post" becomes "/data/post"; anything else stays. */
export const cleanSaveLocation = (text: string | null): string | null =>
  text?.startsWith(`${SAVED}/`) ? text.slice(SAVED.length) : text;

/** Rule `tag_list`: "one, two, three" becomes ["one","two","three"], trimmed, no empties; no tags are null. */
export const splitTags = (text: string | null): readonly string[] | null => {
  if (text === null) return null;
  const tags = text.split(',').flatMap((tag) => tag.trim() || []);
  return tags.length === 0 ? null : tags;
};

/** The one cleaning of pinflow: pure, total, the same for the batch and the speed layer. */
export const cleanPin = (pin: StoredPin): CleanPin => {
  const text = (field: PlaceholderField, value: string | null) => storableText(dropPlaceholder(field, value));
  const cleaned = {
    category: storableText(pin.category),
    title: text('title', pin.title),
    description: text('description', pin.description),
    followerCount: parseFollowerCount(dropPlaceholder('follower_count', pin.follower_count)),
    tagList: splitTags(text('tag_list', pin.tag_list)),
    isImageOrVideo: storableText(pin.is_image_or_video),
    imageSrc: text('image_src', pin.image_src),
    saveLocation: storableText(cleanSaveLocation(pin.save_location)),
    posterName: text('poster_name', pin.posterName ?? null),
  };
  const errorFields: string[] = [];
  if (cleaned.category === null) errorFields.push('category');
  if (cleaned.title === null) errorFields.push('title');
  if (cleaned.description === null) errorFields.push('description');
  if (cleaned.followerCount === null) errorFields.push('follower_count');
  if (cleaned.tagList === null) errorFields.push('tag_list');
  if (cleaned.isImageOrVideo === null) errorFields.push('is_image_or_video');
  if (cleaned.imageSrc === null) errorFields.push('image_src');
  if (cleaned.saveLocation === null) errorFields.push('save_location');
  // The poster's name is not one of the pin's 11 fields: it is missed only where the source has the field.
  if (pin.posterName !== undefined && cleaned.posterName === null) errorFields.push('poster_name');
  return {
    ...cleaned,
    uniqueId: pin.unique_id,
    receivedAtMicros: pin.receivedAtMicros,
    indexNo: pin.index,
    downloaded: pin.downloaded,
    isError: errorFields.length > 0,
    errorFields,
  };
};
