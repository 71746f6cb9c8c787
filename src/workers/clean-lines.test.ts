import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { archiveLine } from '../blob/archive-line.ts';
import type { ArchivedLine } from '../blob/archive-object.ts';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import { openSqlitePinStore } from '../db/pin-store/sqlite.ts';
import { idOf, NOON_MICROS, type PinOptions, pinLine, tableOf, tempFolder, textOf } from './clean-fixture.ts';
import { cleanLines as cleanText } from './clean-lines.ts';

const at = (offset: number, record: string | Uint8Array): ArchivedLine => ({
  offset,
  line: archiveLine(Buffer.from(record), NOON_MICROS / 1000),
});

const cleanLines = (partition: number, lines: readonly ArchivedLine[]) => cleanText(textOf(partition, lines));

const pinAt = (offset: number, n: number, options: PinOptions = {}) => at(offset, pinLine(n, options));

describe('lines → rows', () => {
  test('a row is the cleaned pin with its position and its write timestamp', async () => {
    const { rows, pins, errors, rejected } = await cleanLines(3, [pinAt(41, 7)]);
    expect({ pins, errors, rejected }).toEqual({ pins: 1, errors: 0, rejected: [] });
    expect(rows).toMatchObject([
      {
        uniqueId: idOf(7),
        followerCount: 5000n,
        tagList: ['one', 'two'],
        saveLocation: '/data/mens-fashion',
        position: { partition: 3, offset: 41 },
        writeTimestamp: NOON_MICROS + 7,
        isError: false,
      },
    ]);
  });

  test('a pin with a missing field is a row and an error', async () => {
    const { rows, pins, errors } = await cleanLines(0, [
      pinAt(0, 1, { title: 'No Title Data Available' }),
      pinAt(1, 2),
    ]);
    expect({ pins, errors }).toEqual({ pins: 2, errors: 1 });
    expect(rows[0]).toMatchObject({ title: null, isError: true, errorFields: ['title'] });
  });

  test('what is no pin is rejected with its reason, as it was in the log; its neighbours are rows', async () => {
    const broken = Buffer.from([0xff, 0x00, 0x0a, 0xfe]);
    const { rows, pins, rejected } = await cleanLines(0, [
      pinAt(10, 1),
      at(11, broken),
      at(12, '{"unique_id":"nope","received_at":"2026-11-23T12:00:00.000001Z"}'),
      at(13, 'not json'),
      pinAt(14, 2),
    ]);
    expect(rows.map((row) => row.position.offset)).toEqual([10, 14]);
    expect(pins).toBe(2);
    expect(rejected.map(({ offset }) => offset)).toEqual([11, 12, 13]);
    expect(rejected[0]?.reason).toContain('UTF-8');
    expect(Buffer.from(rejected[0]?.value ?? [])).toEqual(broken);
    expect(rejected[1]?.reason).toContain('unique_id');
    expect(Buffer.from(rejected[2]?.value ?? []).toString()).toBe('not json');
  });

  test('of one id the latest received wins, wherever it stands in the object', async () => {
    const early = { title: 'early', receivedAtMicros: NOON_MICROS + 1 };
    const late = { title: 'late', receivedAtMicros: NOON_MICROS + 2 };
    for (const order of [
      [early, late],
      [late, early],
    ]) {
      const { rows, pins } = await cleanLines(
        0,
        order.map((options, offset) => pinAt(offset, 1, options)),
      );
      expect(pins).toBe(2);
      expect(rows.map((row) => row.title)).toEqual(['late']);
    }
  });

  test('within one millisecond, and at one write timestamp, the later offset wins', async () => {
    const sameMilli = [100, 101].map((offset) =>
      pinAt(offset, 1, { title: `${offset}`, receivedAtMicros: NOON_MICROS }),
    );
    expect((await cleanLines(0, sameMilli)).rows.map((row) => row.title)).toEqual(['101']);
    const sameTimestamp = [100, 1100].map((offset) =>
      pinAt(offset, 1, { title: `${offset}`, receivedAtMicros: NOON_MICROS }),
    );
    expect((await cleanLines(0, sameTimestamp)).rows.map((row) => row.title)).toEqual(['1100']);
  });
});

/** Posts of few ids at few times, so that ids and stamps collide; cut into objects. */
const objects = fc.array(
  fc.array(fc.record({ id: fc.integer({ min: 1, max: 4 }), micros: fc.integer({ min: 0, max: 3 }) }), {
    minLength: 1,
    maxLength: 6,
  }),
  { minLength: 1, maxLength: 5 },
);

const linesOf = (posts: readonly (readonly { id: number; micros: number }[])[]) => {
  let offset = 990;
  return posts.map((object) =>
    object.map(({ id, micros }) => {
      offset++;
      return pinAt(offset, id, { title: `at ${offset}`, receivedAtMicros: NOON_MICROS + micros * 500 });
    }),
  );
};

const wins = (a: PinRow, b: PinRow) =>
  a.writeTimestamp > b.writeTimestamp ||
  (a.writeTimestamp === b.writeTimestamp && a.position.offset > b.position.offset);

describe('properties', () => {
  test('an object folds to the version of each id with the highest (write timestamp, offset)', async () => {
    await fc.assert(
      fc.asyncProperty(objects, async (posts) => {
        const lines = linesOf(posts).flat();
        const expected = new Map<string, PinRow>();
        for (const line of lines) {
          const [row] = (await cleanLines(0, [line])).rows;
          if (row === undefined) throw new Error('a pin was rejected');
          const held = expected.get(row.uniqueId);
          if (held === undefined || wins(row, held)) expected.set(row.uniqueId, row);
        }
        const { rows } = await cleanLines(0, lines);
        expect(new Map(rows.map((row) => [row.uniqueId, row]))).toEqual(expected);
      }),
    );
  });

  describe('over the embedded store', () => {
    let dir: string;
    beforeAll(async () => {
      dir = await tempFolder();
    });
    afterAll(() => rm(dir, { recursive: true, force: true }));

    test('objects in any order, any number of times, give the same table', async () => {
      let number = 0;
      const load = async (objectsInOrder: readonly (readonly ArchivedLine[])[]) => {
        number++;
        const store = openSqlitePinStore({
          dir: join(dir, `${number}`),
          keyspace: 'pinkeyspace',
          catalog: 'cassandra',
        });
        await store.migrate();
        for (const lines of objectsInOrder) await store.upsert((await cleanLines(0, lines)).rows);
        const table = await tableOf(store);
        await store.close();
        return table;
      };
      await fc.assert(
        fc.asyncProperty(
          objects
            .map(linesOf)
            .chain((all) =>
              fc.tuple(
                fc.constant(all),
                fc.array(fc.constantFrom(...all), { maxLength: 5 }),
                fc.shuffledSubarray(all, { minLength: all.length }),
              ),
            ),
          async ([all, before, shuffled]) => {
            expect(await load([...before, ...shuffled])).toEqual(await load(all));
          },
        ),
        { numRuns: 25 },
      );
    });
  });
});
