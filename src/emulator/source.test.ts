import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SQL } from 'bun';
import { startMariadb } from '../../test/fixtures/mariadb.ts';
import { freshDatabase } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { testTool } from '../../test/servers/tools.ts';
import { PinflowError } from '../errors.ts';
import { generatePins } from './generate.ts';
import { openSource } from './source.ts';

const folder = await mkdtemp(join(tmpdir(), 'pinflow-source-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A database server of one's own is made in seconds, on a busy machine too. */
const START_MS = 60_000;

const seed = { seed: 1 };
const row = {
  index: 7528,
  unique_id: '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35',
  title: 'Ten "quiet" outfits, 東京',
  poster_name: 'Ada',
  downloaded: 1,
};

const read = async (from: string | undefined, count = Number.POSITIVE_INFINITY) =>
  readAll(openSource(from, seed), count);

const readAll = async (source: AsyncIterable<string>, count: number): Promise<readonly string[]> => {
  const posts: string[] = [];
  for await (const post of source) {
    posts.push(post);
    if (posts.length >= count) break;
  }
  return posts;
};

const write = async (name: string, content: string): Promise<string> => {
  const path = join(folder, name);
  await Bun.write(path, content);
  return path;
};

test('without a source pins are made up from the seed', async () => {
  const pins = generatePins(seed);
  expect(await read(undefined, 3)).toEqual([1, 2, 3].map(() => JSON.stringify(pins.next().value)));
});

describe('FILE.ndjson', () => {
  test('each line goes out as it is, blank ones apart', async () => {
    const path = await write('pins.ndjson', '{"n":12345678901234567890}\r\n\n  \nnot JSON\n{"last":1}');
    expect(await read(path)).toEqual(['{"n":12345678901234567890}', 'not JSON', '{"last":1}']);
  });
});

describe('FILE.csv', () => {
  test('columns are fields; index and downloaded are numbers; an empty cell is null', async () => {
    const path = await write(
      'pins.csv',
      '\uFEFFindex,unique_id,title,poster_name,downloaded\r\n' +
        `7528,${row.unique_id},"Ten ""quiet"" outfits, 東京",Ada,1\r\n` +
        `many,${row.unique_id},"two\nlines",,\r\n`,
    );
    expect((await read(path)).map((post) => JSON.parse(post))).toEqual([
      row,
      { index: 'many', unique_id: row.unique_id, title: 'two\nlines', poster_name: null, downloaded: null },
    ]);
  });

  test('a row with a cell too many is an error that names the line', async () => {
    const path = await write('odd.csv', 'index,title\n1,one\n2,two,too\n');
    await expect(read(path)).rejects.toThrow('line 3');
  });
});

describe('what is no source', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['a file of another kind', 'pins.parquet', 'FILE.ndjson'],
    ['a file that is not there', join(folder, 'none.ndjson'), 'is not there'],
    ['a folder', join(folder, '..', 'x.csv'), 'is not there'],
    ['a database without a table', 'mysql://user:secret@db.example/pins', 'add ?table=NAME'],
    ['a database of another kind', 'oracle://db.example/pins?table=x', 'postgres://'],
  ];
  for (const [name, from, hint] of cases) {
    test(name, async () => {
      const error = await read(from).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(PinflowError);
      expect((error as PinflowError).code).toBe('config');
      expect((error as PinflowError).message).toContain(hint);
      expect((error as PinflowError).message).not.toContain('secret');
    });
  }
});

/** What a table of pins may stand in. `rows` of them, seven with one index each, so that a page ends among rows of one index. */
type Source = {
  readonly name: string;
  readonly available: boolean;
  readonly start: () => Promise<{ readonly url: string; readonly stop: () => Promise<void> }>;
  readonly fill: (sql: SQL, table: string, rows: number) => Promise<unknown>;
};

const postgres = await testServer('postgres');
const mariadb = await testTool('mariadbd');

const SOURCES: readonly Source[] = [
  {
    name: 'Postgres',
    available: !('skip' in postgres),
    start: async () => {
      const { url, drop } = await freshDatabase(postgres.settings);
      return { url, stop: drop };
    },
    fill: async (sql, table, rows) => {
      const name = sql(table);
      await sql`CREATE TABLE ${name} ("index" bigint NOT NULL, unique_id uuid PRIMARY KEY, title text, follower_count text, downloaded text)`;
      await sql`INSERT INTO ${name} SELECT i / 7, gen_random_uuid(), 'title ' || i, '5k', '1' FROM generate_series(1, ${rows}) i`;
      await sql`UPDATE ${name} SET title = NULL WHERE "index" = 0`;
    },
  },
  {
    name: 'MySQL (MariaDB)',
    available: !('skip' in mariadb),
    start: () => startMariadb(mariadb.path),
    fill: async (sql, table, rows) => {
      const name = `\`${table}\``;
      await sql.unsafe(
        `CREATE TABLE ${name} (\`index\` bigint NOT NULL, unique_id char(36) PRIMARY KEY, title text, follower_count text, downloaded text)`,
      );
      await sql.unsafe(
        `INSERT INTO ${name} SELECT seq DIV 7, uuid(), concat('title ', seq), '5k', '1' FROM seq_1_to_${rows}`,
      );
      await sql.unsafe(`UPDATE ${name} SET title = NULL WHERE \`index\` = 0`);
    },
  },
];

for (const { name, available, start, fill } of SOURCES) {
  describe.skipIf(!available)(`a table in ${name}`, () => {
    let server: { readonly url: string; readonly stop: () => Promise<void> };
    const table = 'Pinterest data; drop table "x"';
    /** Two full pages and a bit. */
    const ROWS = 2500;

    beforeAll(async () => {
      server = await start();
      const sql = new SQL(server.url, { max: 1 });
      await fill(sql, table, ROWS);
      await sql.close();
    }, START_MS);
    afterAll(() => server.stop(), START_MS);

    const from = () => `${server.url}?table=${encodeURIComponent(table)}`;

    test('every row once, in the order of index, as JSON of a pin', async () => {
      const posts = (await read(from())).map((post) => JSON.parse(post));
      expect(posts).toHaveLength(ROWS);
      expect(new Set(posts.map((post) => post.unique_id)).size).toBe(ROWS);
      expect(posts.map((post) => post.index)).toEqual(Array.from({ length: ROWS }, (_, i) => Math.floor((i + 1) / 7)));
      expect(posts[0]).toEqual({
        index: 0,
        unique_id: posts[0].unique_id,
        title: null,
        follower_count: '5k',
        downloaded: 1,
      });
    });

    test('reading may stop midway', async () => expect(await read(from(), 3)).toHaveLength(3));

    test('a table that is not there is the error of the server', async () => {
      await expect(read(`${server.url}?table=nothing`)).rejects.toThrow(/nothing["'] does(n't| not) exist/);
    });
  });
}
