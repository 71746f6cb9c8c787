import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { sql } from 'drizzle-orm';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import type { Database } from './open.ts';
import { createSpeedWriter } from './speed-commit.ts';
import { speedPin } from './speed-fixture.ts';
import { removedBefore, removeOlder } from './speed-removal.ts';

const SET_UP_MS = 60_000;
const MINUTE = 60_000_000;
const NOON = Date.UTC(2026, 0, 23, 12) * 1000;

const pinAt = (receivedAtMicros: number, offset: number) =>
  speedPin({ receivedAtMicros, errorFields: ['title'], position: { partition: 0, offset } });

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`event time on ${engine.name}`, () => {
    let database: Database;
    let next: number | null;
    beforeAll(async () => {
      database = await engine.open();
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);
    beforeEach(async () => {
      next = null;
      await database.db.execute(sql`truncate pins, pin_error_windows, stream_offsets, speed_removals`);
    });

    /** One micro-batch of pins received at these minutes after noon. @returns late pins so far */
    const commit = async (...minutes: readonly number[]): Promise<number> => {
      const writer = createSpeedWriter(database);
      const from = next;
      const to = (from ?? 0) + minutes.length;
      const pins = minutes.map((minute, n) => pinAt(NOON + minute * MINUTE, (from ?? 0) + n));
      const { latePins } = await writer.commit({ topic: 'pins', partition: 0, from, to }, writer.prepare(pins));
      next = to;
      return latePins;
    };
    const counted = async (minute: number) => {
      const rows = await database.sql`select pins::int4 as pins from pin_error_windows
        where field = '' and slide_start = ${new Date((NOON + minute * MINUTE) / 1000).toISOString()}`;
      return rows[0]?.pins ?? 0;
    };
    const watermarkOf = async () => {
      const [row] =
        await database.sql`select extract(epoch from watermark)::float8 as at, now() as now from stream_offsets`;
      return { minute: (Number(row?.at) * 1e6 - NOON) / MINUTE, now: new Date(String(row?.now)).getTime() };
    };

    describe('the watermark', () => {
      test('is the newest stamp less a minute, and never goes back', async () => {
        await commit(5, 3);
        expect((await watermarkOf()).minute).toBe(4);
        await commit(1);
        expect((await watermarkOf()).minute).toBe(4);
        await commit(7.5);
        expect((await watermarkOf()).minute).toBe(6.5);
      });

      test('is not carried off by a stamp of the future', async () => {
        await commit(60 * 24 * 365 * 100);
        const { minute, now } = await watermarkOf();
        expect(NOON / 1000 + minute * 60_000).toBeLessThanOrEqual(now - 60_000);
      });

      test('a batch that brings no pin leaves it', async () => {
        await commit(5);
        const writer = createSpeedWriter(database);
        await writer.commit({ topic: 'pins', partition: 0, from: next, to: 9 }, writer.prepare([]));
        expect((await watermarkOf()).minute).toBe(4);
      });
    });

    describe('a late pin', () => {
      const cases = [
        ['the watermark of its own batch does not make it late', [], [0, 60], 0],
        ['the first of its windows is still open', [60], [59.5, 59], 0],
        ['the first of its windows closed with the watermark', [60], [58.99], 1],
        ['all of them are counted', [60], [0, 1, 57, 59, 60], 3],
      ] as const;
      for (const [name, before, minutes, late] of cases) {
        test(name, async () => {
          if (before.length > 0) await commit(...before);
          expect(await commit(...minutes)).toBe(late);
        });
      }

      test('counts in its own window all the same, and the number of late ones is kept', async () => {
        await commit(0, 60);
        await commit(0.5);
        expect(await counted(0)).toBe(2);
        expect(await commit(61)).toBe(1);
        expect(await commit(0.7, 0.8)).toBe(3);
        expect(await counted(0)).toBe(4);
      });
    });

    describe('removal by policy', () => {
      const times = async () =>
        (await database.sql`select extract(epoch from received_at)::float8 as at from pins order by 1`).map(
          (row) => (Number(row.at) * 1e6 - NOON) / MINUTE,
        );

      test('removes what is older, keeps the rest, and writes the cutoff down', async () => {
        await commit(0, 1, 2, 3);
        expect(await removedBefore(database, 'pins')).toBeNull();
        expect(await removeOlder(database, 'pins', NOON + 2 * MINUTE)).toBe(2);
        expect(await times()).toEqual([2, 3]);
        expect(await removedBefore(database, 'pins')).toBe(NOON + 2 * MINUTE);
        expect(await removeOlder(database, 'pins', NOON + MINUTE)).toBe(0);
        expect(await removedBefore(database, 'pins')).toBe(NOON + 2 * MINUTE);
      });

      test('removes windows by themselves', async () => {
        await commit(0, 1);
        expect(await removeOlder(database, 'pin_error_windows', NOON + MINUTE)).toBe(3);
        expect(await counted(0)).toBe(0);
        expect(await counted(1)).toBe(1);
        expect(await times()).toEqual([0, 1]);
        expect(await removedBefore(database, 'pins')).toBeNull();
      });

      test('goes on over many transactions, and several at once share the work', async () => {
        await commit(...Array.from({ length: 5000 }, (_, n) => n / 5000));
        const rounds = [1, 2, 3].map(() => removeOlder(database, 'pins', NOON + MINUTE));
        expect((await Promise.all(rounds)).reduce((sum, n) => sum + n, 0)).toBe(5000);
        expect(await times()).toEqual([]);
      });

      test('ends between two transactions when it is told to', async () => {
        await commit(0);
        expect(await removeOlder(database, 'pins', NOON + MINUTE, AbortSignal.abort())).toBe(0);
        expect(await times()).toEqual([0]);
      });
    });
  });
}
