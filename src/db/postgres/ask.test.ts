import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { postgresEngines } from '../../../test/fixtures/postgres.ts';
import { createLogger } from '../../logger.ts';
import { askPostgres } from './ask.ts';
import { type Database, openPostgres } from './open.ts';

const START_MS = 60_000;
const TIMEOUT_MS = 2000;
const ROWS = 3;

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`SQL of a guest on ${engine.name}`, () => {
    const embedded = engine.name.includes('embedded');
    let database: Database;
    let stop: () => Promise<void>;
    const ask = (sql: string) =>
      askPostgres(database, sql, { rows: ROWS, timeoutMs: TIMEOUT_MS, maxCost: embedded ? 100_000 : null });
    const count = async () => (await database.sql`select count(*)::int as n from leases`)[0]?.n;

    beforeAll(async () => {
      const server = await engine.start();
      stop = server.stop;
      database = openPostgres({
        url: server.url,
        max: 2,
        logger: createLogger('silent', 'test'),
        applicationName: 'ask',
      });
      await database.sql`insert into leases (name, holder, expires_at) values ('a', 'b', now())`;
    }, START_MS);
    afterAll(async () => {
      await database.close();
      await stop();
    });

    const reads: readonly (readonly [string, readonly string[], readonly (readonly unknown[])[], boolean])[] = [
      ['select name, holder from leases', ['name', 'holder'], [['a', 'b']], false],
      ['select name from leases where false;', ['name'], [], false],
      [
        'select g as n, g as n from generate_series(1, 9) g',
        ['n', 'n'],
        [
          [1, 1],
          [2, 2],
          [3, 3],
        ],
        true,
      ],
      ['values (1), (2), (3)', ['column1'], [[1], [2], [3]], false],
      [
        'with x as (select 9007199254740993::int8 as n, 7::int8 as m) select * from x',
        ['n', 'm'],
        [['9007199254740993', 7]],
        false,
      ],
      [
        'select \'pg_sleep(1); -- /*\' as "set_config" -- comment; delete',
        ['set_config'],
        [['pg_sleep(1); -- /*']],
        false,
      ],
      ['show transaction_read_only', ['transaction_read_only'], [['on']], false],
    ];
    for (const [sql, columns, rows, truncated] of reads) {
      test(sql, async () => expect(await ask(sql)).toEqual({ columns, rows, truncated }));
    }

    test('explain shows a plan', async () => {
      const { columns, rows } = await ask('explain select * from leases');
      expect([columns, rows.length > 0]).toEqual([['QUERY PLAN'], true]);
    });

    const refused: readonly (readonly [string, RegExp])[] = [
      ['delete from leases', /only reading/],
      ['select 1; delete from leases', /several statements/],
      ['with gone as (delete from leases returning 1) select * from gone', /read-only transaction/],
      ['select * from leases for update', /read-only transaction/],
      ['select 1 as x into made', /read-only transaction/],
      // The guard of all engines takes what stands between the apostrophes for a string; Postgres would not.
      ["select $$'$$; commit; delete from leases; select $$'$$", /\$ is not taken/],
      ["select E'\\'', name from leases where name <> E'\\'; delete from leases; --'", /E' is not taken/],
      ["select 1 /* /* */ ' */ ; delete from leases; --'", /block comments/],
      ["select U&\"set\\005fconfig\"('a.b', '1', false)", /U&" is not taken/],
      ["select set_config('transaction_read_only', 'off', true)", /"set_config" may do more/],
      ["select array[set_config('statement_timeout', '0', false)]", /"set_config" may do more/],
      ["select \"set_config\" ('a.b', '1', false)", /"set_config" may do more/],
      ["select pg_catalog . set_config('a.b', '1', false)", /"pg_catalog" is of Postgres/],
      ["select query_to_xml('delete from leases', true, true, '')", /"query_to_xml" may do more/],
      ["select nextval('batch_runs_id_seq')", /"nextval" may do more/],
      ['select lo_creat(1)', /"lo_creat" may do more/],
      ['select pg_sleep(60)', /"pg_sleep" is of Postgres/],
      ['select * from pg_authid', /"pg_authid" is of Postgres/],
      ['explain analyze delete from leases', /only reading/],
      ['select nothing from leases', /column "nothing" does not exist/],
      ['select 1/0', /division by zero/],
      ['', /empty/],
    ];
    for (const [sql, reason] of refused) {
      test(`refused: ${sql}`, async () => {
        await expect(ask(sql)).rejects.toMatchObject({ code: 'query', message: expect.stringMatching(reason) });
        expect(await count()).toBe(1);
      });
    }

    test('what would never end is refused or ended, and the connection answers again', async () => {
      const endless = [
        'with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r',
        'select count(*) from generate_series(1, 100000000) a, generate_series(1, 100000) b',
      ];
      for (const sql of endless)
        await expect(ask(sql)).rejects.toMatchObject({
          code: 'query',
          message: expect.stringMatching(embedded ? /recursion|too long/ : /no answer within 2 s/),
        });
      expect((await ask('select 1 as one')).rows).toEqual([[1]]);
    }, 30_000);

    test('settings of one question are not those of the next', async () => {
      await ask('select 1 as one');
      const [row] =
        await database.sql`select current_setting('statement_timeout') as t, current_setting('transaction_read_only') as r`;
      expect(row).toEqual({ t: '0', r: 'off' });
    });
  });
}
