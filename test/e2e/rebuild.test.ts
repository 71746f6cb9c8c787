import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFsBlobStore } from '../../src/blob/fs.ts';
import { openCqlSession } from '../../src/db/pin-store/cql-session.ts';
import { idOf, pinLines, putObject } from '../../src/workers/clean-fixture.ts';
import { cassandraOptions, dropKeyspaces } from '../fixtures/cassandra.ts';
import { freshDatabase, freshKeyspace } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { CLI, environment, eventually, runCommand } from './program.ts';

/**
 * Human error, made good: `clean --rebuild` on a real Cassandra, killed -9 in its midst, while another client reads the table over
 * and over and misses no pin at any time.
 */
setDefaultTimeout(400_000);
const OBJECTS = 12;
const PINS_EACH = 2000;
const PINS = OBJECTS * PINS_EACH;
const SETTLE_MS = 180_000;
const STRAY = 'ffffffff-0000-4000-8000-000000000000';

const cassandra = await testServer('cassandra');
const postgres = await testServer('postgres');

describe.skipIf('skip' in cassandra || 'skip' in postgres)('a rebuild of the batch view in Cassandra', () => {
  const keyspace = freshKeyspace();
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-rebuild-'));
  const session = openCqlSession(cassandraOptions(cassandra.settings, keyspace));
  let env: Readonly<Record<string, string>>;
  let drop: () => Promise<void>;

  beforeAll(async () => {
    const database = await freshDatabase(postgres.settings);
    drop = database.drop;
    env = { ...cassandra.settings, ...database.settings, DATA_DIR: dir, CQL_KEYSPACE: keyspace } as typeof env;
    const store = openFsBlobStore({ dir: join(dir, 'archive') });
    for (let at = 0; at < PINS; at += PINS_EACH) await putObject(store, 0, at, pinLines(at, PINS_EACH));
    await store.close();
  });
  afterAll(async () => {
    await session.close();
    await dropKeyspaces(cassandra.settings, [keyspace]);
    await drop?.();
    rmSync(dir, { recursive: true, force: true });
  });

  const cql = async (statement: string) =>
    (await session.run((client) => client.execute(statement, [], { prepare: false }))).rows;
  const rowOf = async (id: string) =>
    (
      await cql(`select title, generation, writetime(title) as at from ${keyspace}.userposts where unique_id = ${id}`)
    )[0];

  /** Reads the whole table again and again. @returns a function that ends it and says how many pins each reading saw */
  const startReader = () => {
    const seen: number[] = [];
    let goesOn = true;
    const done = (async () => {
      while (goesOn) {
        const ids = new Set<string>();
        const rows = await session.run((client) =>
          client.execute(`select unique_id from ${keyspace}.userposts`, [], { prepare: false, fetchSize: 2000 }),
        );
        // Page by page, as any reader does.
        for await (const row of rows) ids.add(String(row.unique_id));
        ids.delete(STRAY);
        seen.push(ids.size);
      }
    })();
    return async () => {
      goesOn = false;
      await done;
      return seen;
    };
  };

  test('is killed and gone on with; wrong rows are right again, and readers miss no pin', async () => {
    const first = await runCommand(env, ['clean', '--format', 'json']);
    expect(JSON.parse(first.stdout)).toMatchObject([{ status: 'done', objects: OBJECTS, pins: PINS }]);
    // A row as a wrong rule would have left it, at the same time and generation, and one that is in no object.
    const last = idOf(PINS - 1);
    const right = await rowOf(last);
    await cql(
      `update ${keyspace}.userposts using timestamp ${right?.at} set title = 'wrong' where unique_id = ${last}`,
    );
    await cql(
      `insert into ${keyspace}.userposts (unique_id, title, generation) values (${STRAY}, 'stray', 0) using timestamp 1`,
    );
    expect([(await rowOf(last))?.title, (await rowOf(STRAY))?.title]).toEqual(['wrong', 'stray']);

    const endReader = startReader();
    const killed = Bun.spawn([process.execPath, CLI, 'clean', '--rebuild'], {
      env: environment(env),
      stdout: 'ignore',
      stderr: 'ignore',
    });
    await eventually('the rebuild has begun to write', SETTLE_MS, async () =>
      (await rowOf(idOf(0)))?.generation === 1 ? true : null,
    );
    killed.kill('SIGKILL');
    expect(await killed.exited).not.toBe(0);
    expect((await rowOf(last))?.generation).toBe(0);

    // The lease of the one that was killed has to run out first.
    await eventually('the rebuild is completed', SETTLE_MS, async () => {
      const { code } = await runCommand(env, ['clean', '--rebuild']);
      return code === 0 ? true : null;
    });
    const seen = await endReader();
    expect(seen.length).toBeGreaterThan(1);
    expect(new Set(seen)).toEqual(new Set([PINS]));
    expect(await rowOf(last)).toMatchObject({ title: right?.title, generation: 1 });
    expect(await rowOf(STRAY)).toBeUndefined();
    const older = await cql(`select count(*) as n from ${keyspace}.userposts where generation < 1 allow filtering`);
    expect(Number(older[0]?.n)).toBe(0);
  });
});
