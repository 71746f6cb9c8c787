import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { errorPins } from './error-pins.ts';
import { objectOf, recentRuns } from './ledger.ts';
import { migratePostgres } from './migrate.ts';
import type { Database } from './open.ts';
import { createSpeedWriter } from './speed-commit.ts';
import { speedPin } from './speed-fixture.ts';
import { getSpeedPin, recentErrors, streamOffsets } from './speed-view.ts';

/** From every earlier version, with data in it, to this one. */
const SET_UP_MS = 120_000;
const FOLDER = join(import.meta.dir, '../../../migrations/postgres');

type Journal = { readonly entries: readonly { readonly tag: string }[] };
const journal: Journal = JSON.parse(await readFile(join(FOLDER, 'meta/_journal.json'), 'utf8'));

const ID = '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35';
const RECEIVED = '2026-11-23T12:00:30.123456Z';
const MICROS = Date.parse('2026-11-23T12:00:30.123Z') * 1000 + 456;
const SLIDE = '2026-11-23T12:00:00Z';

/** A value that a column of this type may have, where a test names no other. Arrays begin with `_`. */
const sampleOf = (type: string): string => {
  if (type.startsWith('_')) return "'{one,two}'";
  if (type === 'uuid') return `'${ID}'`;
  if (type === 'bool') return 'true';
  if (type === 'timestamptz') return `'${RECEIVED}'`;
  if (type === 'jsonb') return '\'{"some":1}\'';
  return type.startsWith('int') ? '7' : "'some text'";
};

/** By table and column. */
const GIVEN: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  pins: { error_fields: "'{title}'", category: "'art'", write_ts: String(MICROS), log_partition: '0', log_offset: '7' },
  pin_error_windows: { category: "'art'", field: "''", slide_start: `'${SLIDE}'` },
  stream_offsets: { topic: "'pins'", partition: '0', next_offset: '8' },
  batch_runs: { status: "'done'", reason: "'cron'", ended_at: `'${RECEIVED}'` },
  archive_objects: { partition: '0', first_offset: '0', last_offset: '9' },
  archive_object_stores: { partition: '0', first_offset: '0', status: "'done'", store: "'sqlite'" },
};

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`data of every earlier version on ${engine.name}`, () => {
    let database: Database;
    let dir: string;
    beforeAll(async () => {
      database = await engine.open();
      dir = await mkdtemp(join(tmpdir(), 'pinflow-migrations-'));
    }, SET_UP_MS);
    afterAll(async () => {
      await database.close();
      await rm(dir, { recursive: true, force: true });
    }, SET_UP_MS);

    /** The first migrations alone, as an earlier program had them. */
    const earlier = async (count: number): Promise<string> => {
      const folder = join(dir, String(count));
      await mkdir(join(folder, 'meta'), { recursive: true });
      const entries = journal.entries.slice(0, count);
      for (const { tag } of entries) await cp(join(FOLDER, `${tag}.sql`), join(folder, `${tag}.sql`));
      await writeFile(join(folder, 'meta/_journal.json'), JSON.stringify({ ...journal, entries }));
      return folder;
    };
    const run = (text: string) => database.db.execute(sql.raw(text));
    const names = async (text: string) => (await run(text)).map((row) => String(row.name));
    const tables = () =>
      names("select tablename as name from pg_tables where schemaname = 'public' order by tablename");

    /** One row in each table, every column that takes a value filled. */
    const fill = async () => {
      // Referring tables sort before those they refer to.
      for (const table of (await tables()).toReversed()) {
        const columns = await run(`
          select column_name as name, udt_name as type from information_schema.columns
          where table_schema = 'public' and table_name = '${table}' and is_identity = 'NO' order by ordinal_position`);
        const list = columns.map(({ name }) => `"${name}"`).join(', ');
        const values = columns.map(({ name, type }) => GIVEN[table]?.[String(name)] ?? sampleOf(String(type)));
        // What one row refers to has got 1, the first of its identity.
        const linked = values.map((value, n) => (columns[n]?.name === 'run_id' ? '1' : value)).join(', ');
        await run(`insert into "${table}" (${list}) values (${linked})`);
      }
    };
    const contents = async (held: readonly string[]) => {
      const all = new Map<string, Readonly<Record<string, unknown>>>();
      for (const name of held) {
        const [row] = await run(`select * from "${name}"`);
        all.set(name, row ?? {});
      }
      return all;
    };

    for (let count = 1; count <= journal.entries.length; count++) {
      const version = journal.entries[count - 1]?.tag ?? '';
      test(
        `of ${version} is there after the migrations that follow, and the program works on it`,
        async () => {
          await run('drop schema if exists drizzle cascade');
          await run('drop schema public cascade');
          await run('create schema public');
          expect(await migratePostgres(database, await earlier(count))).toBe(true);
          await fill();
          const held = await tables();
          const before = await contents(held);
          expect(await migratePostgres(database)).toBe(count < journal.entries.length);
          const after = await contents(held);
          for (const [table, row] of before)
            expect([table, after.get(table)]).toEqual([table, expect.objectContaining(row)]);

          expect(await getSpeedPin(database, ID)).toMatchObject({ receivedAtMicros: MICROS, tagList: ['one', 'two'] });
          expect((await recentErrors(database, { limit: 5 })).map(({ uniqueId }) => uniqueId)).toEqual([ID]);
          expect(await errorPins(database, { field: 'title', limit: 5 })).toHaveLength(1);
          expect(await streamOffsets(database, 'pins')).toEqual(new Map([[0, 8]]));
          expect(await recentRuns(database, 5)).toMatchObject([{ status: 'done' }]);
          expect(await objectOf(database, { partition: 0, offset: 5 })).toMatchObject({
            firstOffset: 0,
            lastOffset: 9,
          });

          // The next micro-batch goes on where the earlier program stood, and counts into the windows it left.
          const writer = createSpeedWriter(database);
          const next = speedPin({ receivedAtMicros: MICROS + 1, position: { partition: 0, offset: 8 } });
          await writer.commit({ topic: 'pins', partition: 0, from: 8, to: 9 }, writer.prepare([next]));
          expect(await getSpeedPin(database, next.uniqueId)).toEqual(next);
          const windows = await run(
            "select pins::int4 as pins from pin_error_windows where category = 'art' and field = ''",
          );
          expect(windows.map(({ pins }) => pins)).toEqual([8]);
          for (const view of await names("select viewname as name from pg_views where schemaname = 'public'"))
            await run(`select * from "${view}"`);
        },
        SET_UP_MS,
      );
    }
  });
}
