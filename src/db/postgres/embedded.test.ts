import { afterAll, beforeAll, describe, expect, spyOn, test } from 'bun:test';
import fs, { existsSync } from 'node:fs';
import { access, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../../logger.ts';
import { sleep } from '../../retry.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded.ts';
import { type Database, openPostgres } from './open.ts';

const logger = createLogger('silent', 'test');
const SET_UP_MS = 90_000;
const DEADLINE_MS = 60_000;

let dir: string;
/** Created once, as creating takes seconds; tests take turns with it. */
let cluster: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-embedded-'));
  cluster = join(dir, 'postgres');
  await (await startEmbeddedPostgres({ dir: cluster, port: 0, logger })).close();
}, SET_UP_MS);
afterAll(() => rm(dir, { recursive: true, force: true }));

const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
  for (const end = Date.now() + DEADLINE_MS; !(await holds()); await sleep(5)) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
};

/** A process of its own, to be killed; what it prints comes line by line. */
const spawnProgram = async (name: string, body: string) => {
  const file = join(dir, `${name}.ts`);
  const from = (path: string) => JSON.stringify(join(import.meta.dir, path));
  await writeFile(
    file,
    `import { startEmbeddedPostgres } from ${from('embedded.ts')};
     import { openPostgres } from ${from('open.ts')};
     import { createLogger } from ${from('../../logger.ts')};
     const logger = createLogger('silent', 'test');
     ${body}`,
  );
  const child = Bun.spawn([process.execPath, file], { stdout: 'pipe', stderr: 'inherit' });
  let printed = '';
  const reading = (async () => {
    for await (const chunk of child.stdout) printed += Buffer.from(chunk).toString();
  })();
  const kill = async () => {
    child.kill('SIGKILL');
    await child.exited;
    await reading;
  };
  return { lines: () => printed.split('\n').filter((line) => line !== ''), kill };
};

describe('many clients on the one session', () => {
  let server: EmbeddedPostgres;
  const pools: Database[] = [];
  const pool = (parameters = '') => {
    const database = openPostgres({ url: `${server.url}${parameters}`, logger, applicationName: 'test' });
    pools.push(database);
    return database;
  };
  beforeAll(async () => {
    server = await startEmbeddedPostgres({ dir: cluster, port: 0, logger });
    await pool().sql`create table if not exists ledger (client int, n int)`;
  }, SET_UP_MS);
  afterAll(async () => {
    for (const { close } of pools) await close();
    await server.close();
  }, SET_UP_MS);

  for (const parameters of ['', '?prepare=false']) {
    test(`answers and transactions never mix, rollbacks and errors among them (${parameters || 'prepared'})`, async () => {
      const { sql } = pool();
      await sql`truncate ledger`;
      const work = async ({ sql }: Pick<Database, 'sql'>, client: number) => {
        for (let n = 0; n < 25; n++) {
          const mine = `${client}/${n}`;
          const [row] = await sql`select ${mine}::text as mine`;
          expect(row?.mine).toBe(mine);
          await expect(sql`select 1 / ${0}::int`).rejects.toThrow('division by zero');
          const transaction = sql.begin(async (tx) => {
            const before = Number((await tx`select count(*) as n from ledger where client = ${client}`)[0]?.n);
            await tx`insert into ledger values (${client}, ${n})`;
            await sleep(1);
            const after = Number((await tx`select count(*) as n from ledger where client = ${client}`)[0]?.n);
            expect(after).toBe(before + 1);
            if (n % 2 === 1) throw new Error('changed my mind');
          });
          await transaction.catch((error: Error) => expect(error.message).toBe('changed my mind'));
        }
      };
      const clients = [0, 1, 2, 3, 4, 5];
      const databases = clients.map(() => pool(parameters));
      await Promise.all(clients.map((client) => work(databases[client] as Database, client)));
      const rows = await sql`select client, n from ledger order by client, n`;
      expect(rows.map((r) => [r.client, r.n])).toEqual(
        clients.flatMap((client) => Array.from({ length: 13 }, (_, i) => [client, i * 2])),
      );
    });
  }

  test('a client that goes leaves no prepared statement and no setting behind', async () => {
    const [observer, guest] = [pool(), pool()];
    const leftBehind = async () => {
      const rows = await observer.sql.unsafe('select statement from pg_prepared_statements');
      return rows.filter((row) => String(row.statement).includes('guest')).length;
    };
    await guest.sql`select ${1}::int as guest`;
    await guest.sql.unsafe('set search_path to nowhere');
    expect(await leftBehind()).toBe(1);
    await guest.close();
    await until('the statement is gone', async () => (await leftBehind()) === 0);
    expect((await observer.sql.unsafe('show search_path'))[0]?.search_path).toBe('public');
  });

  test('carries 16 MiB to and fro', async () => {
    const text = '\u{1F4CC}'.repeat(4 * 2 ** 20);
    const [row] = await pool().sql`select ${text}::text as text`;
    expect(row?.text === text).toBe(true);
  });

  test('COPY FROM STDIN is refused, and nobody hangs', async () => {
    const { sql } = pool();
    await expect(sql`copy ledger from stdin`.writable()).rejects.toMatchObject({ code: '0A000' });
    const inside = sql.begin(async (tx) => {
      await tx`insert into ledger values (99, 99)`;
      await tx`copy ledger from stdin`;
    });
    await expect(inside).rejects.toMatchObject({ code: '0A000' });
    expect(await sql`select 1 from ledger where client = 99`).toHaveLength(0);
  });

  test('a commit is synced to the disk before it is answered', async () => {
    const { sql } = pool();
    await sql`select 1`;
    const synced = spyOn(fs, 'fsyncSync');
    try {
      for (let n = 1; n <= 3; n++) {
        const before = synced.mock.calls.length;
        await sql`insert into ledger values (100, ${n})`;
        expect(synced.mock.calls.length).toBeGreaterThan(before);
      }
    } finally {
      synced.mockRestore();
    }
  });
});

describe('kill -9', () => {
  test(
    'under writes loses nothing that was answered, and does not stand in the way of the next start',
    async () => {
      let answered: number[] = [];
      for (const round of [1, 2]) {
        const writer = await spawnProgram(
          `writer-${round}`,
          `const server = await startEmbeddedPostgres({ dir: ${JSON.stringify(cluster)}, port: 0, logger });
           const { sql } = openPostgres({ url: server.url, logger, applicationName: 'writer' });
           await sql\`create table if not exists written (n int)\`;
           for (let n = ${round} * 1_000_000; ; n++) {
             await sql.begin(async (tx) => { await tx\`insert into written values (\${n})\`; await tx\`insert into written values (\${-n})\`; });
             console.log(n);
           }`,
        );
        await until('it has written', () => writer.lines().length > 50);
        await writer.kill();
        answered = [...answered, ...writer.lines().map(Number)];
      }
      const server = await startEmbeddedPostgres({ dir: cluster, port: 0, logger });
      const { sql, close } = openPostgres({ url: server.url, logger, applicationName: 'test' });
      const rows = (await sql`select n from written`).map((row) => Number(row.n));
      const written = new Set(rows);
      expect(answered.filter((n) => !written.has(n) || !written.has(-n))).toEqual([]);
      expect(rows.reduce((sum, n) => sum + n, 0)).toBe(0);
      await close();
      await server.close();
    },
    SET_UP_MS,
  );

  test(
    'while the data is created leaves nothing half made',
    async () => {
      const fresh = join(dir, 'killed-early');
      const start = `await startEmbeddedPostgres({ dir: ${JSON.stringify(fresh)}, port: 0, logger }); console.log('up');`;
      const creator = await spawnProgram('creator', start);
      // The draft is named for the process that makes it.
      const drafts = async () => (await readdir(dir)).filter((name) => name.startsWith('killed-early.new-'));
      await until('it has begun', async () => (await drafts()).length > 0);
      await creator.kill();
      for (const draft of await drafts()) {
        const pid = Number(draft.replace(/^.*-/, ''));
        process.kill(pid, 'SIGKILL');
        await until('it is gone', async () => !existsSync(`/proc/${pid}`));
      }
      await expect(access(fresh)).rejects.toThrow();
      const server = await startEmbeddedPostgres({ dir: fresh, port: 0, logger });
      const { check, close } = openPostgres({ url: server.url, logger, applicationName: 'test' });
      await check();
      await close();
      await server.close();
      expect(await drafts()).toEqual([]);
    },
    SET_UP_MS,
  );
});

test(
  'a folder that is no database is refused with its name',
  async () => {
    const folder = await mkdtemp(join(dir, 'not-postgres-'));
    await writeFile(join(folder, 'PG_VERSION'), '9.6\n');
    await expect(startEmbeddedPostgres({ dir: folder, port: 0, logger })).rejects.toMatchObject({
      code: 'postgres_unavailable',
      message: expect.stringContaining(folder),
    });
  },
  SET_UP_MS,
);

test(
  'its end is told to whoever waits for it, and closing twice is closing once',
  async () => {
    const server = await startEmbeddedPostgres({ dir: cluster, port: 0, logger });
    await Promise.all([server.close(), server.close()]);
    await server.done;
  },
  SET_UP_MS,
);
