import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { sql } from 'drizzle-orm';
import { postgresEngines } from '../../test/fixtures/postgres.ts';
import type { Database } from '../db/postgres/open.ts';
import { createSpeedWriter } from '../db/postgres/speed-commit.ts';
import { speedPin } from '../db/postgres/speed-fixture.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { type KeptDays, keepRemoving } from './stream-removal.ts';

const SET_UP_MS = 60_000;
const DEADLINE_MS = 20_000;
const DAY_MS = 86_400_000;
const NOON = Date.UTC(2026, 10, 23, 12);
const logger = createLogger('silent', 'test');

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`removal of old rows on ${engine.name}`, () => {
    let database: Database;
    let metrics: ReturnType<typeof createMetrics>;
    let now: number;
    beforeAll(async () => {
      database = await engine.open();
    }, SET_UP_MS);
    afterAll(() => database.close(), SET_UP_MS);

    /** A pin and a window of each of the ten days up to noon. */
    beforeEach(async () => {
      [metrics, now] = [createMetrics(), NOON];
      await database.db.execute(sql`truncate pins, pin_error_windows, stream_offsets, speed_removals`);
      const pins = Array.from({ length: 10 }, (_, days) =>
        speedPin({ receivedAtMicros: (NOON - days * DAY_MS) * 1000, position: { partition: 0, offset: days } }),
      );
      const writer = createSpeedWriter(database);
      await writer.commit({ topic: 'pins', partition: 0, from: null, to: 10 }, writer.prepare(pins));
    });

    const counts = async () => {
      const [row] = await database.db.execute(
        sql`select (select count(*)::int from pins) as pins, (select count(*)::int from pin_error_windows) as windows`,
      );
      return [row?.pins, row?.windows];
    };
    const until = async (what: string, holds: () => Promise<boolean>) => {
      for (const end = Date.now() + DEADLINE_MS; !(await holds()); await Bun.sleep(10))
        if (Date.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    };
    const untilCounts = (pins: number, windows: number) =>
      until(`${pins} pins and ${windows} windows`, async () => String(await counts()) === `${pins},${windows}`);
    const removed = async () =>
      Object.fromEntries(
        ((await metrics.registry.getSingleMetric('pinflow_stream_removed_rows_total')?.get())?.values ?? []).map(
          ({ labels, value }) => [labels.table, value],
        ),
      );
    const start = (kept: KeptDays, everyMs?: number) => {
      const ending = new AbortController();
      const clock = { now: () => now };
      const ended = keepRemoving(
        { database, metrics, logger, clock, kept, ...(everyMs && { everyMs }) },
        ending.signal,
      );
      return async () => {
        ending.abort();
        await ended;
      };
    };

    test('each table by its own days, as the clock goes on; what was removed is counted', async () => {
      const end = start({ pins: 3, windows: 7 }, 20);
      await untilCounts(4, 8);
      now += 2 * DAY_MS;
      await untilCounts(2, 6);
      await end();
      expect(await removed()).toEqual({ pins: 8, pin_error_windows: 4 });
    });

    test('0 days keep a table for ever; it ends at once, however long until the next round', async () => {
      const end = start({ pins: 0, windows: 1 });
      await untilCounts(10, 2);
      await end();
      expect(await counts()).toEqual([10, 2]);
    });

    test('a table that cannot be worked on holds up neither the other nor the rounds after', async () => {
      await database.db.execute(sql`alter table pins rename to hidden`);
      const end = start({ pins: 3, windows: 7 }, 20);
      try {
        await until('windows are removed', async () => (await removed()).pin_error_windows === 2);
      } finally {
        await database.db.execute(sql`alter table hidden rename to pins`);
      }
      await untilCounts(4, 8);
      await end();
    });
  });
}
