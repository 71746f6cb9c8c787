import { expect, test } from 'bun:test';
import { cleanPin } from './clean.ts';
import { decodeRecord } from './decode.ts';
import {
  addQuality,
  countCleaned,
  countReject,
  countSetAside,
  emptyQuality,
  type Quality,
  qualityReport,
} from './quality.ts';

const PIN = {
  category: 'art',
  index: 1,
  unique_id: '00000000-0000-4000-8000-000000000001',
  title: 'A title',
  description: 'A text',
  follower_count: '500',
  tag_list: 'one, two',
  is_image_or_video: 'image',
  image_src: 'https://i.pinimg.com/a.jpg',
  downloaded: 1,
  save_location: '/data/art',
};

const count = (quality: Quality, fields: object): void => {
  const decoded = decodeRecord(JSON.stringify({ ...PIN, ...fields }), 1);
  if (decoded.ok) countCleaned(quality, decoded.value, cleanPin(decoded.value));
  else countReject(quality, decoded.reject);
};

const reportOf = (...pins: readonly object[]) => {
  const quality = emptyQuality();
  for (const fields of pins) count(quality, fields);
  return qualityReport(quality);
};

test('a pin that needs nothing has its tags split, and that is all', () => {
  expect(reportOf({})).toEqual({ pins: 1, placeholders: {}, rules: { tag_list: 1 }, rejects: {}, missing: {} });
});

test('each placeholder is counted under its field, by its text', () => {
  const report = reportOf(
    { title: 'No Title Data Available' },
    { description: 'Untitled' },
    { description: 'No description available' },
    { description: 'Untitled' },
    { follower_count: 'User Info Error', poster_name: 'User Info Error' },
    { image_src: 'Image src error.' },
    { tag_list: 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e' },
  );
  expect(report.placeholders).toEqual({
    title: { 'No Title Data Available': 1 },
    description: { 'No description available': 1, Untitled: 2 },
    follower_count: { 'User Info Error': 1 },
    poster_name: { 'User Info Error': 1 },
    image_src: { 'Image src error.': 1 },
    tag_list: { 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e': 1 },
  });
  expect(report.missing).toEqual({
    title: 1,
    description: 3,
    follower_count: 1,
    image_src: 1,
    tag_list: 1,
    poster_name: 1,
  });
});

test('each rule is counted for the pins it changed, and only for those', () => {
  const { rules } = reportOf(
    { follower_count: '5k' },
    { follower_count: '1.5M' },
    { follower_count: '1,234' },
    { follower_count: 'many' },
    { save_location: 'Local save in /data/art' },
    { title: 'a\0b' },
    { tag_list: ' , ' },
    { title: null, description: null, tag_list: null, follower_count: null, save_location: null, image_src: null },
  );
  expect(rules).toEqual({
    follower_count: 3,
    follower_count_unreadable: 1,
    save_location: 1,
    storable_text: 1,
    tag_list: 6,
    tag_list_empty: 1,
  });
});

test('rejects are counted by what is wrong, never by text of the pin', () => {
  const quality = emptyQuality();
  for (const fields of [{ index: 'a' }, { index: 'b' }, { unique_id: 1, index: 'c' }]) count(quality, fields);
  const broken = decodeRecord('{', 1);
  if (!broken.ok) countReject(quality, broken.reject);
  countSetAside(quality, 'refused by the store', 2);
  countSetAside(quality, 'damaged object', 0);
  expect(qualityReport(quality).rejects).toEqual({
    'invalid_pin: index': 3,
    malformed_json: 1,
    'refused by the store': 2,
  });
});

test('reports add up, and reasons stay few whatever comes', () => {
  const [sum, one] = [emptyQuality(), emptyQuality()];
  count(one, { title: 'No Title Data Available', follower_count: '5k' });
  addQuality(sum, one);
  addQuality(sum, one);
  expect(qualityReport(sum)).toMatchObject({
    pins: 2,
    rules: { follower_count: 2, tag_list: 2 },
    missing: { title: 2 },
  });
  for (let n = 0; n < 1000; n++) countSetAside(sum, `reason ${n}`);
  const { rejects } = qualityReport(sum);
  expect(Object.keys(rejects).length).toBeLessThanOrEqual(51);
  expect(rejects.other).toBe(950);
});
