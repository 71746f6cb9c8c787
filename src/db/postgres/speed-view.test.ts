import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { isPinflowError } from '../../errors.ts';
import { cleanPin } from '../../pin/clean.ts';
import { decodeRecord } from '../../pin/decode.ts';
import { isRowError } from './errors.ts';
import type { Database } from './open.ts';
import type { SpeedPin } from './speed-batch.ts';
import { createSpeedWriter, type Move } from './speed-commit.ts';
import { getSpeedPin, recentErrors, speedVersions, streamOffsets } from './speed-view.ts';

const SET_UP_MS = 60_000;
const MINUTE = 60_000_000;
const NOON = Date.UTC(2026, 10, 23, 12) * 1000;

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

const pin = (given: Partial<SpeedPin> = {}): SpeedPin => ({
  uniqueId: id(1),
  receivedAtMicros: NOON + 1,
  category: 'art',
  indexNo: 7,
  title: 'a title',
  description: 'a description',
  followerCount: 893_000n,
  tagList: ['one', 'two'],
  isImageOrVideo: 'image',
  imageSrc: 'https://example.org/1.jpg',
  downloaded: 1,
  saveLocation: '/data/art',
  posterName: null,
  source: null,
  isError: false,
  errorFields: [],
  position: { partition: 0, offset: 0 },
  writeTimestamp: NOON + 1,
  ...given,
});

/** Rows by COPY falls back to arrays where there is no COPY: on the embedded Postgres. */
const WAYS = [
  { way: 'rows as arrays', copyFromRows: Number.POSITIVE_INFINITY },
  { way: 'rows by COPY', copyFromRows: 1 },
];
const engines = await postgresEngines();

for (const { engine, way, copyFromRows } of engines.flatMap((each) => WAYS.map((w) => ({ engine: each, ...w })))) {
  describe.skipIf(!engine.available)(`the speed view on ${engine.name}, ${way}`, () => {
    let database: Database;

    beforeAll(async () => {
      database = await engine.open();
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);
    beforeEach(async () => {
      await database.db.execute(sql`truncate pins, pin_error_windows, stream_offsets`);
    });

    const commit = (pins: readonly SpeedPin[], given: Partial<Move> = {}) => {
      const writer = createSpeedWriter(database, { copyFromRows });
      return writer.commit({ topic: 'pins', partition: 0, from: null, to: 10, ...given }, writer.prepare(pins));
    };
    const windows = async () =>
      (
        await database.db.execute(
          sql`select extract(epoch from slide_start)::float8 as slide, category, field, pins::int4 as pins
              from pin_error_windows order by slide_start, category, field`,
        )
      ).map((row) => [Number(row.slide) * 1e6, row.category, row.field, row.pins]);

    test('gives back every value as it was', async () => {
      const texts = [
        '',
        'NULL',
        'null',
        '{}',
        '{"a",b}',
        '"',
        '\\',
        '\\N',
        "'; drop table pins; --",
        ' space ',
        'tab\tline\nreturn\r',
        '\u0001\u007F',
        '\uFFFD',
        'ß漢字\u{1F4CC}',
        '$1',
      ];
      const rows = texts.map((text, n) =>
        pin({
          uniqueId: id(n),
          category: text,
          title: text,
          description: text,
          tagList: [text, text, 'x'],
          isImageOrVideo: text,
          imageSrc: text,
          saveLocation: text,
          posterName: text,
          source: text,
          position: { partition: 2, offset: n },
        }),
      );
      await commit(rows);
      for (const row of rows) expect(await getSpeedPin(database, row.uniqueId)).toEqual(row);
    });

    test('gives back any text and any tags', async () => {
      const hostile = fc.string({ unit: fc.constantFrom('\\', '"', '{', '}', ',', "'", ' ', 'N', '\n') });
      const text = fc.oneof(
        hostile,
        fc.string({ unit: 'binary' }).map((s) => s.replaceAll('\0', ' ')),
      );
      const anyTags = fc.option(fc.array(text, { minLength: 1 }));
      await fc.assert(
        fc.asyncProperty(fc.option(text), anyTags, fc.option(fc.bigInt(0n, 2n ** 63n - 1n)), async (t, tags, n) => {
          await database.db.execute(sql`truncate pins, stream_offsets`);
          const row = pin({ title: t, tagList: tags, followerCount: n });
          await commit([row]);
          expect(await getSpeedPin(database, row.uniqueId)).toEqual(row);
        }),
        { numRuns: 50 },
      );
    });

    test('takes extremes: nulls, the widest numbers, the farthest times, 10,000 tags, a text of 1 MiB in a category', async () => {
      const rows = [
        pin({
          uniqueId: id(1),
          category: null,
          title: null,
          tagList: null,
          followerCount: null,
          errorFields: ['title'],
          isError: true,
        }),
        pin({
          uniqueId: id(2),
          followerCount: 9_223_372_036_854_775_807n,
          indexNo: -2_147_483_648,
          downloaded: 2_147_483_647,
        }),
        pin({ uniqueId: id(3), receivedAtMicros: Number.MAX_SAFE_INTEGER, writeTimestamp: Number.MAX_SAFE_INTEGER }),
        pin({ uniqueId: id(4), receivedAtMicros: -1 }),
        pin({ uniqueId: id(5), tagList: Array.from({ length: 10_000 }, (_, n) => `tag ${n}`) }),
        pin({ uniqueId: id(6), category: crypto.randomUUID().repeat(30_000), title: '\u{1F4CC}'.repeat(2 ** 18) }),
      ];
      await commit(rows);
      for (const row of rows) expect(await getSpeedPin(database, row.uniqueId)).toEqual(row);
      expect(await getSpeedPin(database, id(7))).toBeNull();
    });

    test('takes what cleaning makes of NUL and lone surrogates', async () => {
      const sent = {
        ...JSON.parse(await Bun.file('test/fixtures/seed-pin.json').text()),
        title: 'a\0b\uD800c',
        tag_list: '\0,\uDC00',
      };
      const decoded = decodeRecord(JSON.stringify(sent), 0);
      if (!decoded.ok) throw new Error(decoded.reject.reason);
      const position = { partition: 0, offset: 0 };
      const row = { ...cleanPin(decoded.value), position, source: null, writeTimestamp: 1 };
      await commit([row]);
      expect(await getSpeedPin(database, row.uniqueId)).toMatchObject({
        title: 'a\uFFFDb\uFFFDc',
        tagList: ['\uFFFD', '\uFFFD'],
      });
    });

    test('keeps the newest version of an id, in a batch and between batches; a tie goes to the later offset', async () => {
      const version = (writeTimestamp: number, offset: number) =>
        pin({ writeTimestamp, position: { partition: 0, offset }, title: `${writeTimestamp}/${offset}` });
      await commit([version(5, 1), version(5, 3), version(5, 2), version(4, 9)], { to: 10 });
      expect((await getSpeedPin(database, id(1)))?.title).toBe('5/3');
      await commit([version(5, 2)], { from: 10, to: 11 });
      expect((await getSpeedPin(database, id(1)))?.title).toBe('5/3');
      await commit([version(5, 4)], { from: 11, to: 12 });
      expect((await getSpeedPin(database, id(1)))?.title).toBe('5/4');
      await commit([version(6, 0)], { from: 12, to: 13 });
      expect((await getSpeedPin(database, id(1)))?.title).toBe('6/0');
    });

    test('counts every record, versions of one id too, by minute, category and missing field', async () => {
      const bad = { isError: true, errorFields: ['title', 'tag_list'] };
      await commit([pin(), pin(bad), pin({ ...bad, receivedAtMicros: NOON + MINUTE, category: null })], { to: 3 });
      await commit([pin(bad)], { from: 3, to: 4 });
      expect(await windows()).toEqual([
        [NOON, 'art', '', 3],
        [NOON, 'art', '*', 2],
        [NOON, 'art', 'tag_list', 2],
        [NOON, 'art', 'title', 2],
        [NOON + MINUTE, '', '', 1],
        [NOON + MINUTE, '', '*', 1],
        [NOON + MINUTE, '', 'tag_list', 1],
        [NOON + MINUTE, '', 'title', 1],
      ]);
    });

    test('a sliding window of two minutes starts every minute', async () => {
      const at = (minute: number) => pin({ receivedAtMicros: NOON + minute * MINUTE });
      await commit([at(0), at(0), at(1), at(3)]);
      const rows = await database.db.execute(
        sql`select extract(epoch from window_start)::float8 as start, pins::int4 as pins from pin_error_windows_sliding
            where field = '' and window_end = window_start + interval '2 minutes' order by 1`,
      );
      const minutes = rows.map((row) => [(Number(row.start) * 1e6 - NOON) / MINUTE, row.pins]);
      expect(minutes).toEqual([
        [-1, 2],
        [0, 3],
        [1, 1],
        [2, 1],
        [3, 1],
      ]);
    });

    test('moves the offset with the rows, and only from where it stood', async () => {
      await commit([pin()], { to: 5 });
      await commit([], { from: 5, to: 8 });
      for (const from of [null, 0, 5, 9]) {
        const error = await commit([pin({ uniqueId: id(2) })], { from, to: 20 }).catch((e: unknown) => e);
        expect(isPinflowError(error, 'fenced')).toBe(true);
      }
      expect(await getSpeedPin(database, id(2))).toBeNull();
      expect((await windows()).map((row) => row[3])).toEqual([1]);
      expect(await streamOffsets(database, 'pins')).toEqual(new Map([[0, 8]]));
      expect(await streamOffsets(database, 'other')).toEqual(new Map());
    });

    test('of two transactions from one offset, begun at once, exactly one lands', async () => {
      await commit([], { to: 5 });
      const results = await Promise.allSettled(
        [2, 3, 4, 5].map((n) => commit([pin({ uniqueId: id(n) })], { from: 5, to: 5 + n })),
      );
      expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
      const [[, offset] = []] = await streamOffsets(database, 'pins');
      expect((await getSpeedPin(database, id((offset ?? 0) - 5)))?.uniqueId).toBe(id((offset ?? 0) - 5));
      expect((await windows()).map((row) => row[3])).toEqual([1]);
    });

    test('partitions that count into the same windows at once do not disturb each other', async () => {
      const rounds = Array.from({ length: 10 }, (_, n) => n);
      const categories = ['a', 'b', 'c', 'd'];
      await Promise.all(
        [0, 1, 2, 3].map(async (partition) => {
          for (const n of rounds) {
            const order = partition % 2 === 0 ? categories : [...categories].reverse();
            const pins = order.map((category, c) => pin({ category, uniqueId: id(partition * 1000 + n * 10 + c) }));
            await commit(pins, { partition, from: n === 0 ? null : n, to: n + 1 });
          }
        }),
      );
      expect((await windows()).map((row) => row[3])).toEqual([40, 40, 40, 40]);
    });

    test('a refused row rolls everything back and is known for a row', async () => {
      await database.db.execute(sql`alter table pins add constraint no_poison check (title <> 'poison')`);
      try {
        const error = await commit([pin(), pin({ uniqueId: id(2), title: 'poison' })]).catch((e: unknown) => e);
        expect(isRowError(error)).toBe(true);
        expect(isPinflowError(error) && error.retryable).toBe(false);
        expect(await windows()).toEqual([]);
        expect(await streamOffsets(database, 'pins')).toEqual(new Map());
      } finally {
        await database.db.execute(sql`alter table pins drop constraint no_poison`);
      }
    });

    test('lists every id once with its version, over pages', async () => {
      const rows = Array.from({ length: 4500 }, (_, n) => pin({ uniqueId: crypto.randomUUID(), writeTimestamp: n }));
      await commit(rows);
      const seen: (readonly [string, number])[] = [];
      for await (const page of speedVersions(database)) for (const v of page) seen.push([v.uniqueId, v.writeTimestamp]);
      expect(seen.length).toBe(4500);
      expect(new Map(seen)).toEqual(new Map(rows.map((row) => [row.uniqueId, row.writeTimestamp])));
    });

    test('lists the newest errors', async () => {
      const rows = [1, 2, 3].map((n) =>
        pin({
          uniqueId: id(n),
          receivedAtMicros: NOON + n,
          isError: n !== 2,
          errorFields: n === 2 ? [] : ['title'],
          title: null,
        }),
      );
      await commit(rows);
      expect(await recentErrors(database, { limit: 5 })).toEqual([
        {
          uniqueId: id(3),
          receivedAt: '2026-11-23T12:00:00.000003Z',
          category: 'art',
          title: null,
          errorFields: ['title'],
        },
        {
          uniqueId: id(1),
          receivedAt: '2026-11-23T12:00:00.000001Z',
          category: 'art',
          title: null,
          errorFields: ['title'],
        },
      ]);
      expect(await recentErrors(database, { limit: 1 })).toHaveLength(1);
    });
  });
}
