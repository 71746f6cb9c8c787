import type { SpeedPin } from './speed-batch.ts';

/** For tests: a pin of the speed view without texts and without errors, whose version is its time. */
export const speedPin = (given: Partial<SpeedPin> & Pick<SpeedPin, 'receivedAtMicros'>): SpeedPin => ({
  uniqueId: crypto.randomUUID(),
  category: 'art',
  indexNo: 1,
  title: null,
  description: null,
  followerCount: null,
  tagList: null,
  isImageOrVideo: null,
  imageSrc: null,
  downloaded: 1,
  saveLocation: null,
  posterName: null,
  source: null,
  isError: (given.errorFields ?? []).length > 0,
  errorFields: [],
  position: { partition: 0, offset: 0 },
  writeTimestamp: given.receivedAtMicros,
  ...given,
});
