import { z } from 'zod';

/** Where a record stands in the log: the offset is unique within its partition and rises. */
export type Position = { readonly partition: number; readonly offset: number };

/** The 11 fields of a pin, in the seed's order and spelling. */
export const PIN_FIELDS = [
  'category',
  'index',
  'unique_id',
  'title',
  'description',
  'follower_count',
  'tag_list',
  'is_image_or_video',
  'image_src',
  'downloaded',
  'save_location',
] as const;

export type PinField = (typeof PIN_FIELDS)[number];

const INT32_MIN = -2_147_483_648;
const INT32_MAX = 2_147_483_647;

/** What each kind of field should be, in the words a 422 answers with. */
const TEXT = 'a string or null';
const INT = `an integer from ${INT32_MIN} to ${INT32_MAX}`;
const UUID = 'a UUID such as "0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35"';

const wanted = (expected: string) => (issue: { readonly input?: unknown }) =>
  issue.input === undefined ? `is missing; it should be ${expected}` : `should be ${expected}`;

const text = z.string({ error: wanted(TEXT) }).nullable();
const int32 = z.int32({ error: wanted(INT) });

/** The schema of a pin as it is posted. Unknown fields are allowed and travel along untouched. */
export const pinSchema = z.object(
  {
    category: text,
    index: int32,
    unique_id: z.guid({ error: wanted(UUID) }),
    title: text,
    description: text,
    follower_count: text,
    tag_list: text,
    is_image_or_video: text,
    image_src: text,
    downloaded: int32,
    save_location: text,
  },
  { error: () => 'should be a JSON object with the fields of a pin' },
);

export type Pin = z.infer<typeof pinSchema>;

const isText = (value: unknown): boolean => value === null || typeof value === 'string';
const isInt32 = (value: unknown): boolean => typeof value === 'number' && (value | 0) === value;

const HEX_DIGIT = Uint8Array.from({ length: 128 }, (_, code) => (/[0-9a-f]/i.test(String.fromCharCode(code)) ? 1 : 0));

export const isUuid = (value: unknown): boolean => {
  if (typeof value !== 'string' || value.length !== 36) return false;
  if (value[8] !== '-' || value[13] !== '-' || value[18] !== '-' || value[23] !== '-') return false;
  let digits = 0;
  for (let i = 0; i < 36; i++) digits += HEX_DIGIT[value.charCodeAt(i)] ?? 0;
  return digits === 32;
};

/**
 * The same answer as {@link pinSchema} gives (a property test holds the two together), at a tenth of the time; the
 * schema is asked only for the words of a refusal.
 */
export const isPin = (value: unknown): value is Pin => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const pin = value as Readonly<Record<PinField, unknown>>;
  return (
    isUuid(pin.unique_id) &&
    isInt32(pin.index) &&
    isInt32(pin.downloaded) &&
    isText(pin.category) &&
    isText(pin.title) &&
    isText(pin.description) &&
    isText(pin.follower_count) &&
    isText(pin.tag_list) &&
    isText(pin.is_image_or_video) &&
    isText(pin.image_src) &&
    isText(pin.save_location)
  );
};

/** A pin as it stands in the log: with the edge's stamp, and the poster's name where the source has one. */
export type StoredPin = Pin & {
  /** Microseconds since the Unix epoch. */
  readonly receivedAtMicros: number;
  readonly posterName: string | null | undefined;
  /** True where no text of it can have a NUL or a lone surrogate, as nothing in its line is escaped by `\\u`. Else it is not known. */
  readonly isStorable: boolean;
};

/**
 * Orders the versions of one pin, in both views: microseconds since the Unix epoch.
 * The edge's stamps are unique to the microsecond, so they stand as they are. A record of another producer may carry
 * whole milliseconds only; there the offset breaks the tie (modulo 1,000, the microseconds within one millisecond).
 */
export const writeTimestamp = (receivedAtMicros: number, offset: number): number =>
  receivedAtMicros % 1000 === 0 ? receivedAtMicros + (offset % 1000) : receivedAtMicros;
