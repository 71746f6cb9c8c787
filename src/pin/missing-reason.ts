import { PLACEHOLDERS } from './clean.ts';

const quoted = (texts: readonly string[]): string => texts.map((text) => JSON.stringify(text)).join(', ');

const placeholderOr = (field: keyof typeof PLACEHOLDERS, other = ''): string =>
  `null, a placeholder (${quoted(PLACEHOLDERS[field])})${other}`;

/**
 * By field of `error_fields`: what it may have been as posted, by the rules of cleaning. Which of them it was only the archive
 * and the log can tell: a view holds what cleaning left.
 */
const REASONS: Readonly<Record<string, string>> = {
  category: 'null',
  title: placeholderOr('title'),
  description: placeholderOr('description'),
  follower_count: placeholderOr('follower_count', ', or no count such as "893k", "1.5M" or "1,234" that fits 64 bits'),
  tag_list: placeholderOr('tag_list', ', or text without a tag'),
  is_image_or_video: 'null',
  image_src: placeholderOr('image_src'),
  save_location: 'null',
  poster_name: placeholderOr('poster_name'),
};

/** Every field that can be missing after cleaning, as posted. */
export const ERROR_FIELDS: readonly string[] = Object.keys(REASONS);

/** What made a field missing: what it was as posted, one of the things listed. */
export const missingReason = (field: string): string => REASONS[field] ?? 'not known to this version of the program';
