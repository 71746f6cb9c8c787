import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import {
  type CleanPin,
  cleanPin,
  cleanSaveLocation,
  dropPlaceholder,
  PLACEHOLDERS,
  parseFollowerCount,
  splitTags,
  storableText,
} from './clean.ts';
import type { StoredPin } from './pin.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const INT64_MAX = 9_223_372_036_854_775_807n;

const stored: StoredPin = {
  category: 'mens-fashion',
  index: 7528,
  unique_id: '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35',
  title: 'Ten quiet outfits',
  description: 'Linen and light trainers.',
  follower_count: '893k',
  tag_list: 'Mens Fashion,Linen',
  is_image_or_video: 'image',
  image_src: 'https://i.pinimg.com/originals/57/90/b0/5790b0.jpg',
  downloaded: 1,
  save_location: 'Local save in /data/mens-fashion',
  receivedAtMicros: 1_767_225_600_000_001,
  posterName: undefined,
  isStorable: false,
};

const cleaned: CleanPin = {
  uniqueId: '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35',
  receivedAtMicros: 1_767_225_600_000_001,
  category: 'mens-fashion',
  indexNo: 7528,
  title: 'Ten quiet outfits',
  description: 'Linen and light trainers.',
  followerCount: 893_000n,
  tagList: ['Mens Fashion', 'Linen'],
  isImageOrVideo: 'image',
  imageSrc: 'https://i.pinimg.com/originals/57/90/b0/5790b0.jpg',
  downloaded: 1,
  saveLocation: '/data/mens-fashion',
  posterName: null,
  isError: false,
  errorFields: [],
};

/** Any text, with lone surrogates, NUL, and what the rules look for among it. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes)),
  fc.constantFrom(...Object.values(PLACEHOLDERS).flat(), 'Local save in /data/x', '5k', ' , ,', '\0', '\ud800'),
);
const anyField = fc.option(anyText);

const anyStored: fc.Arbitrary<StoredPin> = fc.record({
  category: anyField,
  index: fc.integer(),
  unique_id: fc.uuid(),
  title: anyField,
  description: anyField,
  follower_count: anyField,
  tag_list: anyField,
  is_image_or_video: anyField,
  image_src: anyField,
  downloaded: fc.integer(),
  save_location: anyField,
  receivedAtMicros: fc.maxSafeNat(),
  posterName: fc.oneof(anyField, fc.constant(undefined)),
  isStorable: fc.constant(false),
});

describe('rule placeholder', () => {
  const cases: readonly (readonly [keyof typeof PLACEHOLDERS, string])[] = [
    ['follower_count', 'User Info Error'],
    ['poster_name', 'User Info Error'],
    ['title', 'No Title Data Available'],
    ['description', 'No description available'],
    ['description', 'No description available Story format'],
    ['description', 'Untitled'],
    ['image_src', 'Image src error.'],
    ['tag_list', 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e'],
  ];
  for (const [field, text] of cases) {
    test(`${field} ${JSON.stringify(text)} is null`, () => expect(dropPlaceholder(field, text)).toBeNull());
  }

  test('the table above has every placeholder there is', () => {
    const known = Object.entries(PLACEHOLDERS).flatMap(([field, texts]) => texts.map((text) => `${field} ${text}`));
    expect(cases.map((c) => c.join(' ')).toSorted()).toEqual(known.toSorted());
  });

  test('the tags placeholder is what Python joins', () => {
    expect([...'No Tags Available'].join(',')).toBe(PLACEHOLDERS.tag_list[0]);
  });

  const kept: readonly (readonly [string, keyof typeof PLACEHOLDERS, string])[] = [
    ['of another field', 'title', 'User Info Error'],
    ['within a longer text', 'title', 'No Title Data Available yet'],
    ['in other case', 'description', 'untitled'],
    ['empty text', 'title', ''],
    ['a name all objects have', 'title', 'constructor'],
  ];
  for (const [name, field, text] of kept) {
    test(`${name} stays`, () => expect(dropPlaceholder(field, text)).toBe(text));
  }
});

describe('rule storable_text', () => {
  const cases: readonly (readonly [string, string | null, string | null])[] = [
    ['null stays', null, null],
    ['empty stays', '', ''],
    ['a pair of surrogates stays', '🌞', '🌞'],
    ['NUL is replaced', 'a\0b\0', 'a\uFFFDb\uFFFD'],
    ['a lone high surrogate is replaced', 'a\ud83c', 'a\uFFFD'],
    ['a lone low surrogate is replaced', '\udf1eb', '\uFFFDb'],
    ['surrogates the wrong way round are replaced', '\udf1e\ud83c', '\uFFFD\uFFFD'],
    ['other control characters stay', '\u0001\t\n\u007f', '\u0001\t\n\u007f'],
  ];
  for (const [name, text, want] of cases) test(name, () => expect(storableText(text)).toBe(want));

  test('property: valid UTF-8 without NUL, and the same when done again', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const storable = storableText(text) as string;
        expect(utf8.decode(new TextEncoder().encode(storable))).toBe(storable);
        expect(storable).not.toContain('\0');
        expect(storableText(storable)).toBe(storable);
        expect(storable.length).toBe(text.length);
      }),
    );
  });
});

describe('rule follower_count', () => {
  const cases: readonly (readonly [string | null, bigint | null])[] = [
    [null, null],
    ['', null],
    ['0', 0n],
    ['544', 544n],
    ['007', 7n],
    [' 12 ', 12n],
    ['5k', 5_000n],
    ['893K', 893_000n],
    ['1.5k', 1_500n],
    ['1.50k', 1_500n],
    ['1.234k', 1_234n],
    ['2M', 2_000_000n],
    ['2.25m', 2_250_000n],
    ['1B', 1_000_000_000n],
    ['1.123456789b', 1_123_456_789n],
    ['1,234', 1_234n],
    ['1,234,567', 1_234_567n],
    ['1,234k', 1_234_000n],
    ['5.0', 5n],
    ['9007199254740993', 9_007_199_254_740_993n],
    ['9007199254740.993k', 9_007_199_254_740_993n],
    ['9223372036854775807', INT64_MAX],
    ['9223372036854775808', null],
    ['9223372036.854775807b', INT64_MAX],
    ['9223372036.854775808b', null],
    ['9,223,372,036,854,775,807', INT64_MAX],
    ['9999999999999999999b', null],
    ['1.5', null],
    ['1.2345k', null],
    ['1,23', null],
    ['1234,567', null],
    [',123', null],
    ['1.k', null],
    ['.5k', null],
    ['-5', null],
    ['+5', null],
    ['5kk', null],
    ['5 k', null],
    ['5T', null],
    ['1e3', null],
    ['0x10', null],
    ['٣', null],
    ['NaN', null],
    ['Infinity', null],
    ['User Info Error', null],
  ];
  for (const [text, want] of cases) {
    test(`${JSON.stringify(text)} is ${want}`, () => expect(parseFollowerCount(text)).toBe(want));
  }

  test('more different counts than are remembered', () => {
    const counts = Array.from({ length: 10_000 }, (_, n) => n);
    for (const _ of [1, 2])
      expect(counts.map((n) => parseFollowerCount(`${n}k`))).toEqual(counts.map((n) => BigInt(n) * 1000n));
  });

  test('text as long as a pin may be is refused without reading it all', () => {
    const long = '0'.repeat(2_000_000);
    expect(parseFollowerCount(`0.${long}1k`)).toBeNull();
    expect(parseFollowerCount(`${long}1`)).toBeNull();
    expect(parseFollowerCount(`${'1,111'.repeat(400_000)}`)).toBeNull();
  });

  const digits = fc.stringMatching(/^\d{1,22}$/);
  const likeCount = fc.oneof(
    anyText,
    fc.tuple(digits, fc.constantFrom('', '.'), digits, fc.constantFrom('', 'k', 'M', 'b')).map((p) => p.join('')),
    fc.stringMatching(/^[\d,.kKmMbB ]{0,30}$/),
  );

  test('property: null or a bigint from 0 to 2^63 - 1, never a float', () => {
    fc.assert(
      fc.property(likeCount, (text) => {
        const count = parseFollowerCount(text);
        expect(count === null || (typeof count === 'bigint' && count >= 0n && count <= INT64_MAX)).toBe(true);
      }),
    );
  });

  test('property: every whole number that fits comes back, in each of its spellings', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 1_000_000_000_000_000_000_000n }), (count) => {
        const want = count > INT64_MAX ? null : count;
        expect(parseFollowerCount(String(count))).toBe(want);
        expect(parseFollowerCount(count.toLocaleString('en-US'))).toBe(want);
        expect(parseFollowerCount(`${count / 1000n}.${String(count % 1000n).padStart(3, '0')}k`)).toBe(want);
        expect(parseFollowerCount(`${count / 1_000_000n}.${String(count % 1_000_000n).padStart(6, '0')}M`)).toBe(want);
      }),
    );
  });
});

describe('rule save_location', () => {
  const cases: readonly (readonly [string | null, string | null])[] = [
    [null, null],
    ['Local save in /data/post', '/data/post'],
    ['Local save in /data/mens-fashion', '/data/mens-fashion'],
    ['Local save in /', '/'],
    ['Local save in data/post', 'Local save in data/post'],
    ['Local save in ', 'Local save in '],
    ['local save in /data', 'local save in /data'],
    [' Local save in /data', ' Local save in /data'],
    ['/data/post', '/data/post'],
    ['', ''],
  ];
  for (const [text, want] of cases) {
    test(`${JSON.stringify(text)} is ${JSON.stringify(want)}`, () => expect(cleanSaveLocation(text)).toBe(want));
  }
});

describe('rule tag_list', () => {
  const cases: readonly (readonly [string | null, readonly string[] | null])[] = [
    [null, null],
    ['', null],
    [' , ,, ', null],
    ['one', ['one']],
    ['one, two, three', ['one', 'two', 'three']],
    ['one,,two, ', ['one', 'two']],
    ['\tone\n,\u00a0two', ['one', 'two']],
    ['Mens Fashion,Linen', ['Mens Fashion', 'Linen']],
    ['same,same', ['same', 'same']],
    ['東京,café ✨', ['東京', 'café ✨']],
  ];
  for (const [text, want] of cases) {
    test(`${JSON.stringify(text)} is ${JSON.stringify(want)}`, () => expect(splitTags(text)).toEqual(want));
  }

  test('property: never an empty list or entry, all trimmed, and the same when joined and split again', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          anyText,
          fc.array(anyText).map((texts) => texts.join(',')),
        ),
        (text) => {
          const tags = splitTags(text);
          expect(tags).not.toEqual([]);
          for (const tag of tags ?? []) expect(tag).toBe(tag.trim() || 'no empty tag');
          expect(splitTags(tags === null ? null : tags.join(', '))).toEqual(tags);
        },
      ),
    );
  });
});

describe('cleanPin', () => {
  test('a good pin', () => expect(cleanPin(stored)).toEqual(cleaned));

  const errors: readonly (readonly [string, Partial<StoredPin>, readonly string[]])[] = [
    ['category null', { category: null }, ['category']],
    ['title placeholder', { title: 'No Title Data Available' }, ['title']],
    ['description placeholder', { description: 'Untitled' }, ['description']],
    ['follower_count placeholder', { follower_count: 'User Info Error' }, ['follower_count']],
    ['follower_count unreadable', { follower_count: 'many' }, ['follower_count']],
    ['tag_list placeholder', { tag_list: PLACEHOLDERS.tag_list[0] }, ['tag_list']],
    ['tag_list of empties', { tag_list: ' , ' }, ['tag_list']],
    ['is_image_or_video null', { is_image_or_video: null }, ['is_image_or_video']],
    ['image_src placeholder', { image_src: 'Image src error.' }, ['image_src']],
    ['save_location null', { save_location: null }, ['save_location']],
    ['poster name null', { posterName: null }, ['poster_name']],
    ['poster name placeholder', { posterName: 'User Info Error' }, ['poster_name']],
    ['poster name not in the source', { posterName: undefined }, []],
    ['poster name there', { posterName: 'Ada' }, []],
    [
      'several, in the order of the pin',
      { save_location: null, title: null, category: null },
      ['category', 'title', 'save_location'],
    ],
  ];
  for (const [name, change, errorFields] of errors) {
    test(`error fields: ${name}`, () => {
      const pin = cleanPin({ ...stored, ...change });
      expect([pin.isError, pin.errorFields]).toEqual([errorFields.length > 0, errorFields]);
    });
  }

  test('an index of -0 is 0', () => {
    const { indexNo, downloaded } = cleanPin({ ...stored, index: -0, downloaded: -0 });
    expect([Object.is(indexNo, 0), Object.is(downloaded, 0)]).toEqual([true, true]);
  });

  test('property: total; marks agree with fields; cleaning what is clean changes nothing', () => {
    fc.assert(
      fc.property(anyStored, (pin) => {
        const once = cleanPin(pin);
        expect(once.isError).toBe(once.errorFields.length > 0);
        expect(once.errorFields.includes('title')).toBe(once.title === null);
        expect(once.errorFields.includes('follower_count')).toBe(once.followerCount === null);
        const again = cleanPin({
          ...pin,
          category: once.category,
          title: once.title,
          description: once.description,
          follower_count: once.followerCount === null ? null : String(once.followerCount),
          tag_list: once.tagList === null ? null : once.tagList.join(','),
          is_image_or_video: once.isImageOrVideo,
          image_src: once.imageSrc,
          save_location: once.saveLocation,
          posterName: pin.posterName === undefined ? undefined : once.posterName,
        });
        expect(again).toEqual(once);
      }),
    );
  });
});
