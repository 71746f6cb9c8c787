import { expect, test } from 'bun:test';
import { cleanPin, PLACEHOLDERS } from './clean.ts';
import { ERROR_FIELDS, missingReason } from './missing-reason.ts';
import type { StoredPin } from './pin.ts';

const empty: StoredPin = {
  category: null,
  index: 1,
  unique_id: '00000000-0000-4000-8000-000000000001',
  title: null,
  description: null,
  follower_count: null,
  tag_list: null,
  is_image_or_video: null,
  image_src: null,
  downloaded: 1,
  save_location: null,
  receivedAtMicros: 1,
  posterName: null,
  isStorable: false,
};

test('names exactly the fields that cleaning can find missing, in its order', () => {
  expect(ERROR_FIELDS).toEqual(cleanPin(empty).errorFields);
});

test('names every placeholder of a field', () => {
  for (const [field, texts] of Object.entries(PLACEHOLDERS)) {
    for (const text of texts) expect(missingReason(field)).toContain(JSON.stringify(text));
  }
});

test('says so of a field that an older or newer version marked', () => {
  expect(missingReason('colour')).toContain('not known');
});
