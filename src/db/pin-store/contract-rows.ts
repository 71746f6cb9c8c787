import type { PinRow } from './pin-store.ts';

/** Rows for tests of pin stores. */
const NOW_MICROS = 1_795_458_000_123_457;

let rowsMade = 0;

/** A cleaned pin with every field set, an id of its own, and `given` on top. */
export const pinRow = (given: Partial<PinRow> = {}): PinRow => {
  const offset = rowsMade++;
  const receivedAtMicros = NOW_MICROS + offset;
  return {
    uniqueId: crypto.randomUUID(),
    receivedAtMicros,
    category: 'mens-fashion',
    indexNo: 7528,
    title: 'Ten quiet outfits for a summer in the city',
    description: 'Linen, light trainers and one good jacket.',
    followerCount: 893_000n,
    tagList: ['Mens Fashion', 'Street Style'],
    isImageOrVideo: 'image',
    imageSrc: 'https://i.pinimg.com/originals/57/90/b0/1.jpg',
    downloaded: 1,
    saveLocation: '/data/mens-fashion',
    posterName: 'A Poster',
    isError: false,
    errorFields: [],
    writeTimestamp: given.receivedAtMicros ?? receivedAtMicros,
    position: { partition: 2, offset },
    ...given,
  };
};

/** All that may be null. */
export const NULLS = {
  category: null,
  title: null,
  description: null,
  followerCount: null,
  tagList: null,
  isImageOrVideo: null,
  imageSrc: null,
  saveLocation: null,
  posterName: null,
  isError: true,
  errorFields: ['category', 'title', 'follower_count'],
} as const;
