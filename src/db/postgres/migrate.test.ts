import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { createLogger } from '../../logger.ts';
import { migratePostgres } from './migrate.ts';
import { type Database, openPostgres } from './open.ts';

const logger = createLogger('silent', 'test');
const SET_UP_MS = 60_000;
const FOLDER = join(import.meta.dir, '../../../migrations/postgres');

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`migrations on ${engine.name}`, () => {
    let server: { url: string; stop: () => Promise<void> };
    let pools: Database[];
    let dir: string;
    beforeAll(async () => {
      server = await engine.start();
      pools = [1, 2, 3].map((n) => openPostgres({ url: server.url, logger, applicationName: `test ${n}` }));
      dir = await mkdtemp(join(tmpdir(), 'pinflow-migrations-'));
    }, SET_UP_MS);
    afterAll(async () => {
      for (const pool of pools) await pool.close();
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    }, SET_UP_MS);

    const first = () => {
      const [pool] = pools;
      if (pool === undefined) throw new Error('not set up');
      return pool;
    };
    const tables = async () =>
      (
        await first().db.execute(sql`select tablename as name from pg_tables where schemaname = 'public' order by 1`)
      ).map((row) => row.name);
    /** The program's migrations and one more. */
    const withAnother = async (name: string, statement: string) => {
      const folder = join(dir, name);
      await cp(FOLDER, folder, { recursive: true });
      await writeFile(join(folder, `9999_${name}.sql`), statement);
      const journal = JSON.parse(await readFile(join(folder, 'meta/_journal.json'), 'utf8'));
      journal.entries.push({
        idx: 9999,
        version: '7',
        when: 4_000_000_000_000,
        tag: `9999_${name}`,
        breakpoints: true,
      });
      await writeFile(join(folder, 'meta/_journal.json'), JSON.stringify(journal));
      return folder;
    };

    test('once, when several processes begin at once', async () => {
      await first().db.execute(sql`drop schema drizzle cascade`);
      await first().db.execute(sql`drop schema public cascade`);
      await first().db.execute(sql`create schema public`);
      const done = await Promise.all(pools.map((pool) => migratePostgres(pool)));
      expect(done.filter((did) => did)).toHaveLength(1);
      expect(await tables()).toContain('stream_offsets');
      expect(await migratePostgres(first())).toBe(false);
    });

    test('all or nothing, and again once what was wrong is right', async () => {
      const broken = await withAnother('broken', 'create table extra ();--> statement-breakpoint\nselect nonsense');
      await expect(migratePostgres(first(), broken)).rejects.toThrow('nonsense');
      expect(await tables()).not.toContain('extra');
      expect(await migratePostgres(first())).toBe(false);
    });

    test('a schema that is newer than the program is refused', async () => {
      expect(await migratePostgres(first(), await withAnother('newer', 'create table extra ()'))).toBe(true);
      await expect(migratePostgres(first())).rejects.toThrow(/newer pinflow.*2096-10-02/);
    });
  });
}
