import { describe, expect, test } from 'bun:test';
import { type CleanPin, PLACEHOLDERS } from '../pin/clean.ts';
import { NOON_MICROS, pinLine, textOf } from './clean-fixture.ts';
import { type CleanedLines, cleanLines } from './clean-lines.ts';

/** The table of docs/cleaning.md that says where pinflow and the seed differ: each row is tried, and none is left out. */
const page = await Bun.file(new URL('../../docs/cleaning.md', import.meta.url)).text();
type Row = { readonly name: string; readonly input: string; readonly ours: string };
const rows: readonly Row[] = [...page.matchAll(/^\| ([a-z]+-[a-z-]+) \| (.*) \|$/gm)].map(
  ([, name = '', rest = '']) => {
    const cells = rest.split(' | ');
    return { name, input: cells[0] ?? '', ours: cells[3] ?? '' };
  },
);
const rowOf = (name: string): Row => {
  const found = rows.find((row) => row.name === name);
  if (found === undefined) throw new Error(`docs/cleaning.md has no row ${name}`);
  return found;
};

const linesOf = (...records: readonly string[]): Promise<CleanedLines> =>
  cleanLines(
    textOf(
      0,
      records.map((record, offset) => ({ offset, line: Buffer.from(record) })),
    ),
  );
const posted = (given: Readonly<Record<string, unknown>>): string =>
  JSON.stringify({ ...(JSON.parse(pinLine(0)) as object), ...given });
const cleanedOf = async (given: Readonly<Record<string, unknown>>): Promise<CleanPin> => {
  const { rows: cleaned, rejected } = await linesOf(posted(given));
  expect(rejected).toEqual([]);
  return cleaned[0] as CleanPin;
};

/** As the page writes it. */
const shown = (value: unknown): string => (typeof value === 'bigint' ? String(value) : JSON.stringify(value));

/** Case → the field as posted, the column it becomes, and what is posted where the page says it in words. */
const FIELDS: Readonly<Record<string, readonly [field: string, column: keyof CleanPin, inWords?: readonly unknown[]]>> =
  {
    'placeholder-follower-count': ['follower_count', 'followerCount'],
    'placeholder-title': ['title', 'title'],
    'placeholder-description-story': ['description', 'description'],
    'placeholder-description': ['description', 'description'],
    'placeholder-untitled': ['description', 'description', ['Untitled']],
    'placeholder-image': ['image_src', 'imageSrc'],
    'placeholder-tags': ['tag_list', 'tagList', PLACEHOLDERS.tag_list],
    'placeholder-poster': ['poster_name', 'posterName', ['User Info Error']],
    'count-fraction': ['follower_count', 'followerCount'],
    'count-commas': ['follower_count', 'followerCount'],
    'count-large': ['follower_count', 'followerCount'],
    'count-case': ['follower_count', 'followerCount'],
    'count-odd': ['follower_count', 'followerCount'],
    'count-null': ['follower_count', 'followerCount'],
    'count-huge': ['follower_count', 'followerCount', ['9223372036854775808', '9300000000B']],
    'location-other': ['save_location', 'saveLocation'],
    'tags-spaces': ['tag_list', 'tagList'],
    'tags-empty': ['tag_list', 'tagList'],
  };

describe('docs/cleaning.md, where the seed does otherwise', () => {
  test.each(Object.entries(FIELDS))('%s', async (name, [field, column, inWords]) => {
    const { input, ours } = rowOf(name);
    const inputs = inWords ?? (JSON.parse(`[${input}]`) as readonly unknown[]);
    const columns = await Promise.all(inputs.map(async (value) => (await cleanedOf({ [field]: value }))[column]));
    expect([...new Set(columns.map(shown))].join(', ')).toBe(ours);
  });

  const others: Readonly<Record<string, () => Promise<void>>> = {
    'error-mark': async () => {
      expect(rowOf('error-mark').ours).toBe('an error that names the field');
      expect(await cleanedOf({ title: null })).toMatchObject({ isError: true, errorFields: ['title'] });
    },
    'same-id': async () => {
      expect(rowOf('same-id').ours).toBe('the later `received_at` wins');
      const later = pinLine(1, { title: 'later', receivedAtMicros: NOON_MICROS + 1000 });
      const earlier = pinLine(1, { title: 'earlier', receivedAtMicros: NOON_MICROS });
      for (const order of [
        [later, earlier],
        [earlier, later],
      ]) {
        expect((await linesOf(...order)).rows).toMatchObject([{ title: 'later' }]);
      }
    },
    'not-json': async () => {
      expect(rowOf('not-json').ours).toBe('a dead letter with its reason');
      const { rows: none, rejected } = await linesOf('no pin');
      expect([none.length, rejected.length]).toEqual([0, 1]);
      expect(rejected[0]?.reason).toContain('not JSON');
    },
    'text-nul': async () => {
      expect(rowOf('text-nul').ours).toBe('U+FFFD');
      expect((await cleanedOf({ title: 'a\0b' })).title).toBe('a\uFFFDb');
    },
  };
  test.each(Object.entries(others))('%s', (_, holds) => holds());

  test('no row is left out', () => {
    expect([...Object.keys(FIELDS), ...Object.keys(others)]).toEqual(rows.map(({ name }) => name));
  });
});
