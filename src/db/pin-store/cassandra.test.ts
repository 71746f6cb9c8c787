import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';
import { type Client, errors, types } from 'cassandra-driver';
import { cassandraOptions, dropKeyspaces } from '../../../test/fixtures/cassandra.ts';
import { freshKeyspace } from '../../../test/servers/fresh.ts';
import { testServer } from '../../../test/servers/servers.ts';
import { openCassandraPinStore } from './cassandra.ts';
import { pinStoreContract } from './contract.ts';
import { NULLS, pinRow } from './contract-rows.ts';
import { insertsOf } from './cql-inserts.ts';
import { migrateCql } from './cql-migrations.ts';
import { COLUMNS, insertCql } from './cql-rows.ts';
import { type CqlSession, openCqlSession } from './cql-session.ts';
import { cqlWriter } from './cql-writer.ts';
import type { PinRow } from './pin-store.ts';

const server = await testServer('cassandra');
const TIMEOUT_MS = 120_000;

const optionsFor = (keyspace: string) => cassandraOptions(server.settings, keyspace);

/** A way to the server that can be cut. */
const openGate = () => {
  const [host = '', port = '9042'] = (optionsFor('').contactPoints[0] ?? '').split(':');
  const sockets = new Set<Socket>();
  let gate: Server | null = null;
  const open = (at: number) =>
    new Promise<number>((resolve, reject) => {
      const listening = createServer((inside) => {
        const outside = dial(Number(port), host);
        for (const [one, other] of [
          [inside, outside],
          [outside, inside],
        ] as const) {
          sockets.add(one);
          one.on('error', () => other.destroy());
          one.on('close', () => other.destroy());
          one.pipe(other);
        }
      });
      listening.on('error', reject);
      listening.listen(at, '127.0.0.1', () => resolve((listening.address() as AddressInfo).port));
      gate = listening;
    });
  const shut = () =>
    new Promise<void>((resolve) => {
      gate?.close(() => resolve());
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    });
  return { open, shut };
};

describe.skipIf('skip' in server)('on a real Cassandra', () => {
  const keyspaces = Array.from({ length: 6 }, freshKeyspace);
  const [contractKeyspace = '', keyspace = '', otherShape = '', forbidden = '', racing = '', otherTypes = ''] =
    keyspaces;
  afterAll(() => dropKeyspaces(server.settings, keyspaces), TIMEOUT_MS);

  pinStoreContract('cassandra', () => openCassandraPinStore(optionsFor(contractKeyspace)));

  describe('the Cassandra pin store', () => {
    const options = optionsFor(keyspace);
    const store = openCassandraPinStore(options);
    beforeAll(() => store.migrate(), TIMEOUT_MS);
    afterAll(() => store.close());

    /** A row between two others: it is refused by name, and they are written. */
    const writesAllBut = async (bad: PinRow) => {
      const rows = [pinRow(), bad, pinRow()];
      const error = await store.upsert(rows).catch((e: unknown) => e);
      const message = expect.stringContaining(bad.uniqueId);
      expect(error).toMatchObject({ code: 'invalid_pin', retryable: false, message });
      expect(await Promise.all(rows.map((row) => store.get(row.uniqueId)))).toEqual([rows[0], null, rows[2]] as never);
    };

    test(
      'names the pin the cluster does not take, and writes its neighbours',
      async () => {
        await writesAllBut(pinRow({ description: 'x'.repeat(17 * 1024 * 1024) }));
      },
      TIMEOUT_MS,
    );

    test(
      'weighs a batch as the cluster counts it',
      async () => {
        const { run, close } = openCqlSession(options);
        const errorFields = ['category', 'title', 'description', 'follower_count', 'tag_list', 'poster_name'];
        const tagList = Array.from({ length: 20 }, (_, i) => `tag ${i} ünï`);
        for (const given of [{}, { ...NULLS, errorFields }, { description: '東'.repeat(100), tagList }]) {
          const rows = Array.from({ length: 30 }, () => pinRow(given));
          const { inserts } = insertsOf(rows, 0);
          const counted = await run(async (client) => {
            const said = new Promise<string>((resolve) => {
              client.on('log', (_level: string, _from: string, message: string) => {
                if (message.includes('is of size')) resolve(message);
              });
            });
            const query = insertCql(`${keyspace}.userposts`);
            await client.batch(
              inserts.map(({ params }) => ({ query, params })),
              { logged: false },
            );
            return Number(/is of size (\d+)/.exec(await said)?.[1]);
          });
          const weighed = inserts.reduce((sum, { bytes }) => sum + bytes, 0);
          expect(counted).toBeLessThanOrEqual(weighed);
          expect(counted).toBeGreaterThan(0.95 * weighed);
        }
        await close();
      },
      TIMEOUT_MS,
    );

    test(
      'would refuse the encoded values if the driver sent them its own way',
      async () => {
        const { run, close } = openCqlSession(options);
        const row = pinRow();
        const params = insertsOf([row], 0).inserts[0]?.params.map((value) => Buffer.from(value)) ?? [];
        await expect(run((client) => client.execute(insertCql(`${keyspace}.userposts`), params))).rejects.toMatchObject(
          {
            code: 'invalid_pin',
          },
        );
        expect(await store.get(row.uniqueId)).toBeNull();
        await close();
      },
      TIMEOUT_MS,
    );

    test(
      'names a pin that cannot be encoded, and writes its neighbours',
      async () => {
        await writesAllBut(pinRow({ indexNo: 2 ** 31 }));
      },
      TIMEOUT_MS,
    );

    test(
      'writes nothing to a table whose columns have other types, and names them',
      async () => {
        const there = { ...options, keyspace: otherTypes };
        const session = openCqlSession(there);
        const run = (cql: string) => session.run((client) => client.execute(cql, [], { prepare: false }));
        await session.run((client) => migrateCql(client, there));
        await run(`DROP TABLE ${otherTypes}.userposts`);
        // Eight bytes as a bigint, and taken for another value.
        const columns = Object.entries(COLUMNS).map(
          ([name, { type }]) => `${name} ${name === 'log_offset' ? 'double' : type}`,
        );
        await run(
          `CREATE TABLE ${otherTypes}.userposts (${columns.join(', ')}, generation int, PRIMARY KEY (unique_id))`,
        );
        const write = cqlWriter(session, there);
        await expect(write([pinRow()])).rejects.toMatchObject({
          code: 'config',
          retryable: false,
          message: expect.stringContaining('log_offset is double, should be bigint'),
        });
        expect((await run(`SELECT unique_id FROM ${otherTypes}.userposts`)).rowLength).toBe(0);
        await run(`DROP TABLE ${otherTypes}.userposts`);
        await expect(write([pinRow()])).rejects.toMatchObject({
          code: 'config',
          message: expect.stringContaining('migrate'),
        });
        await session.close();
      },
      TIMEOUT_MS,
    );

    test(
      'opens while the cluster is away, fails as retryable, and connects when it comes, goes and comes back',
      async () => {
        const gate = openGate();
        const port = await gate.open(0);
        await gate.shut();
        const away = openCassandraPinStore({ ...options, contactPoints: [`127.0.0.1:${port}`] });
        const isAway = () =>
          expect(away.upsert([pinRow()])).rejects.toMatchObject({
            code: 'pin_store_unavailable',
            retryable: true,
            message: expect.stringContaining('CASSANDRA_CONTACT_POINTS'),
          });
        const works = async () => {
          const row = pinRow();
          await away.upsert([row]);
          expect(await away.get(row.uniqueId)).toEqual(row);
        };
        await isAway();
        await gate.open(port);
        await works();
        await gate.shut();
        await isAway();
        await isAway();
        await gate.open(port);
        await works();
        await gate.shut();
        await away.close();
      },
      TIMEOUT_MS,
    );

    test(
      'names the variable of a data centre that is not there',
      async () => {
        const wrong = openCassandraPinStore({ ...options, datacenter: 'nowhere' });
        await expect(wrong.check()).rejects.toMatchObject({
          code: 'config',
          retryable: false,
          message: expect.stringMatching(/datacenter1.*CASSANDRA_DATACENTER/),
        });
        await wrong.close();
      },
      TIMEOUT_MS,
    );

    test(
      'refuses to migrate a table of another shape, such as one with ordinary lists',
      async () => {
        const there = { ...options, keyspace: otherShape };
        const session = openCqlSession(there);
        const run = (cql: string) => session.run((client) => client.execute(cql, [], { prepare: false }));
        await run(
          `CREATE KEYSPACE ${otherShape} WITH replication = {'class': 'NetworkTopologyStrategy', '${options.datacenter}': 1}`,
        );
        await run(`CREATE TABLE ${otherShape}.userposts (unique_id uuid PRIMARY KEY, tag_list list<text>)`);
        await expect(session.run((client) => migrateCql(client, there))).rejects.toMatchObject({
          code: 'config',
          message: expect.stringContaining('tag_list is list<text>, should be frozen<list<text>>'),
        });
        await session.close();
      },
      TIMEOUT_MS,
    );

    test(
      'migrates while the node does not know yet what another process has just created',
      async () => {
        const there = { ...options, keyspace: racing };
        const session = openCqlSession(there);
        const unknown = response(types.responseErrorCodes.invalid, `table schema_migrations does not exist`);
        const notYet = ['CREATE TABLE', 'INSERT INTO'];
        const racy = (client: Client) =>
          withExecute(client, (cql, ...rest) => {
            const at = notYet.findIndex((start) => cql.startsWith(start));
            if (at === -1) return client.execute(cql, ...rest);
            notYet.splice(at, 1);
            return Promise.reject(unknown);
          });
        await session.run((client) => migrateCql(racy(client), there));
        expect(notYet).toEqual([]);
        await session.close();
      },
      TIMEOUT_MS,
    );

    test(
      'gives an administrator the statement when it may not create the keyspace',
      async () => {
        const there = { ...options, keyspace: forbidden, replication: 3, username: 'pinflow' };
        const session = openCqlSession({ ...there, username: undefined });
        const unauthorized = response(types.responseErrorCodes.unauthorized, 'User pinflow has no CREATE permission');
        const faulty = (client: Client) =>
          withExecute(client, (cql, ...rest) =>
            cql.startsWith('CREATE KEYSPACE') ? Promise.reject(unauthorized) : client.execute(cql, ...rest),
          );
        const statement = `CREATE KEYSPACE IF NOT EXISTS ${forbidden} WITH replication = {'class': 'NetworkTopologyStrategy', '${options.datacenter}': 3};`;
        await expect(session.run((client) => migrateCql(faulty(client), there))).rejects.toMatchObject({
          code: 'config',
          message: expect.stringContaining(statement),
        });
        // One that exists needs no such permission.
        await session.run((client) => client.execute(statement.replace('3}', '1}'), [], { prepare: false }));
        await session.run((client) => migrateCql(faulty(client), there));
        await session.close();
      },
      TIMEOUT_MS,
    );

    test(
      'writes rows one by one when their batch is refused, and again what the cluster did not manage',
      async () => {
        const { run, close } = openCqlSession(options);
        const failures = [
          response(types.responseErrorCodes.overloaded, 'overloaded'),
          new errors.OperationTimedOutError('no answer in time'),
        ];
        let batches = 0;
        const refusing = (client: Client) =>
          Object.assign(
            withExecute(client, (cql, ...rest) => {
              const failure = cql.startsWith('INSERT') ? failures.pop() : undefined;
              return failure === undefined ? client.execute(cql, ...rest) : Promise.reject(failure);
            }),
            {
              batch: () => {
                batches++;
                return Promise.reject(response(types.responseErrorCodes.invalid, 'Batch too large'));
              },
            },
          );
        const session: CqlSession = { close, run: (work) => run((client) => work(refusing(client))) };
        // Batches need to know who holds a row; the driver learns of a new keyspace a second after it is made.
        await run((client) => client.metadata.refreshKeyspace(keyspace));
        const rows = Array.from({ length: 40 }, () => pinRow());
        await cqlWriter(session, options)(rows);
        expect(batches).toBeGreaterThan(0);
        expect(failures).toEqual([]);
        for (const row of rows) expect(await store.get(row.uniqueId)).toEqual(row);
        await close();
      },
      TIMEOUT_MS,
    );
  });
});

/** As the driver makes it of the server's answer; its constructor is not in the driver's types. */
const response = (code: number, message: string): Error =>
  Object.assign(Object.create(errors.ResponseError.prototype) as Error, { code, message });

type Execute = (query: string, params?: unknown[], options?: object) => Promise<types.ResultSet>;

/** The client as it is, but for `execute`. */
const withExecute = (client: Client, execute: Execute): Client =>
  Object.assign(Object.create(client) as Client, { execute });
