import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { appendFileSync, chmodSync, chownSync, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  Kafka,
  logLevel,
  ResourcePatternTypes,
} from 'kafkajs';
import postgresJs from 'postgres';
import { openCqlSession } from '../../src/db/pin-store/cql-session.ts';
import { createLogger } from '../../src/logger.ts';
import { startFaultyProxy } from '../fixtures/faulty-proxy.ts';
import { freshBucket, freshDatabase, freshKeyspace, freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { diagnose, metricsOf, post, untilMetric, untilNamed, untilReady } from './asking.ts';
import { type Env, eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * Engines that are away, wrong or not set up, under the real program: it starts, takes pins, names what to put right in /readyz, in
 * `doctor` and in its log, never shows a secret, and goes on by itself once it is right.
 */
setDefaultTimeout(300_000);
const SETTLE_MS = 180_000;
/** Stands in every wrong password, so that one search finds any of them. */
const SECRET = 'hunter2-never-shown';

const servers = {
  kafka: await testServer('kafka'),
  s3: await testServer('s3'),
  postgres: await testServer('postgres'),
  cassandra: await testServer('cassandra'),
};
const all = Object.values(servers);
const areOurs = all.every((server) => 'from' in server && server.from === 'packages');
if (!areOurs && !all.some((server) => 'skip' in server)) {
  console.warn('skipped: bad days need servers of our own, not from variables or compose');
}

/** Does what the commands of a message ask `rpk` for, which is Redpanda's, by the protocol both speak. */
const grantByRpk = async (kafka: OwnServer, message: string): Promise<void> => {
  const commands = [...message.matchAll(/rpk security acl create ([^;)]+)/g)].map(([, args = '']) => args);
  expect(commands).toHaveLength(2);
  const acl = commands.flatMap((args) => {
    const { values } = parseArgs({
      args: args.trim().split(' '),
      options: {
        'allow-principal': { type: 'string', default: '' },
        operation: { type: 'string', default: '' },
        topic: { type: 'string', multiple: true, default: [] },
        group: { type: 'string', multiple: true, default: [] },
      },
    });
    const resources = [
      ...values.topic.map((resourceName) => ({ resourceName, resourceType: AclResourceTypes.TOPIC })),
      ...values.group.map((resourceName) => ({ resourceName, resourceType: AclResourceTypes.GROUP })),
    ];
    return resources.flatMap((resource) =>
      values.operation.split(',').map((operation) => ({
        ...resource,
        operation: AclOperationTypes[operation.toUpperCase() as keyof typeof AclOperationTypes],
        principal: values['allow-principal'],
        host: '*',
        permissionType: AclPermissionTypes.ALLOW,
        resourcePatternType: ResourcePatternTypes.LITERAL,
      })),
    );
  });
  const admin = new Kafka({ brokers: [kafka.settings.KAFKA_BROKERS ?? ''], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  await admin.createAcls({ acl });
  await admin.disconnect();
};

describe.skipIf(!areOurs)('a program whose engines are not as they should be', () => {
  const dirs: string[] = [];
  const drops: (() => Promise<void>)[] = [];
  const own: OwnServer[] = [];
  let program: Running | undefined;

  // One that a failed test left would go on in the groups of the shared broker.
  afterEach(async () => void (await program?.kill('SIGKILL')));
  afterAll(async () => {
    for (const server of own) await server.stop();
    for (const drop of drops) await drop();
    for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
  });

  /** A Postgres of its own on the shared server and a folder; all else embedded, unless `env` says otherwise. */
  const settingsWith = async (env: Env): Promise<Env> => {
    const dir = mkdtempSync(join(tmpdir(), 'pinflow-bad-days-'));
    dirs.push(dir);
    const database = env.DATABASE_URL === undefined ? await freshDatabase(servers.postgres.settings) : null;
    if (database !== null) drops.push(database.drop);
    return {
      DATA_DIR: dir,
      PIN_TOPIC: freshName('pins'),
      ARCHIVE_MAX_SECONDS: '1',
      CLEAN_CRON: '* * * * * *',
      SPOOL_DEADLINE_MS: '1000',
      ...(database?.settings ?? {}),
      ...env,
    } as Env;
  };

  const end = async (running: Running) => {
    expect(await running.kill('SIGTERM')).toBe(0);
    expect(running.output()).not.toContain(SECRET);
    program = undefined;
  };

  test('engines that are away at the start: it takes pins, says which are away, and works when they come', async () => {
    const [kafkaPort = 0, postgresPort = 0, nowhere = 0] = await freePorts(3);
    const env = await settingsWith({
      KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
      DATABASE_URL: `postgres://postgres@127.0.0.1:${postgresPort}/postgres`,
      S3_ENDPOINT: `http://127.0.0.1:${nowhere}`,
      S3_BUCKET: 'pins',
      AWS_ACCESS_KEY_ID: 'pinflow',
      AWS_SECRET_ACCESS_KEY: SECRET,
      CASSANDRA_CONTACT_POINTS: `127.0.0.1:${nowhere}`,
    });
    const away = await startProgram(env);
    program = away;
    expect(await post(away)).toBe('spool');
    const parts = await untilNamed(away, {
      'log (kafka)': 'KAFKA_BROKERS',
      spool: '1 pins',
      archive: 'S3_ENDPOINT',
      stream: 'DATABASE_URL',
    });
    expect(parts.get('clean')?.ready).toBe(false);
    await untilMetric(away, /^pinflow_spool_records 1$/m);
    await untilMetric(away, /^pinflow_worker_ready\{worker="archive"\} 0$/m);
    await untilMetric(away, /^pinflow_retries_total\{engine="s3"\} [1-9]/m);
    const { findings } = await diagnose(env);
    expect(findings.get('log')).toContain('KAFKA_BROKERS');
    expect(findings.get('archive')).toContain('S3_ENDPOINT');
    expect(findings.get('pin store cassandra')).toContain('CASSANDRA_CONTACT_POINTS');
    expect(findings.get('Postgres')).toContain('DATABASE_URL');
    expect(away.output()).toContain('KAFKA_BROKERS');
    expect(away.output()).toContain('S3_ENDPOINT');
    await end(away);

    // The same with what can be brought up here.
    const { S3_ENDPOINT: _, S3_BUCKET: __, CASSANDRA_CONTACT_POINTS: ___, ...rest } = env;
    const waiting = await startProgram(rest);
    program = waiting;
    expect(await post(waiting)).toBe('spool');
    await untilNamed(waiting, { 'log (kafka)': 'KAFKA_BROKERS', stream: 'DATABASE_URL' });
    own.push(...(await Promise.all([ownServer('kafka', kafkaPort), ownServer('postgres', postgresPort)])));
    await untilReady(waiting);
    expect(await post(waiting)).toBe('broker');
    const reconciled = await runCommand(rest, ['reconcile', '--wait', '90', '--format', 'json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({
      equal: true,
      counts: { log: 3, archive: 3, speed: 3, embedded: 3 },
    });
    await end(waiting);
  });

  test('wrong credentials: each variable is named, no secret is shown', async () => {
    const postgres = await ownServer('postgres');
    own.push(postgres);
    const admin = postgresJs(postgres.settings.DATABASE_URL ?? '', { max: 1 });
    const [{ hba = '' } = {}] = await admin`select current_setting('hba_file') as hba`;
    await admin.unsafe("create role pinflow login password 'right'");
    await Bun.write(hba as string, 'host all all 127.0.0.1/32 scram-sha-256\n');
    await admin`select pg_reload_conf()`;
    await admin.end();
    const { host } = new URL(postgres.settings.DATABASE_URL ?? '');
    const { kafka } = servers;
    const env = await settingsWith({
      KAFKA_BROKERS: kafka.extra.saslBrokers ?? '',
      KAFKA_SASL_MECHANISM: 'scram-sha-256',
      KAFKA_SASL_USERNAME: kafka.extra.saslUsername ?? '',
      KAFKA_SASL_PASSWORD: SECRET,
      ...(await freshBucket(servers.s3.settings)),
      AWS_SECRET_ACCESS_KEY: SECRET,
      DATABASE_URL: `postgres://pinflow:${SECRET}@${host}/postgres`,
    } as Env);
    const wrong = await startProgram(env);
    program = wrong;
    expect(await post(wrong)).toBe('spool');
    const parts = await untilNamed(wrong, {
      'log (kafka)': 'KAFKA_SASL_PASSWORD',
      archive: 'AWS_SECRET_ACCESS_KEY',
      stream: 'DATABASE_URL',
      clean: 'DATABASE_URL',
    });
    expect(JSON.stringify([...parts.values()])).not.toContain(SECRET);
    expect(await metricsOf(wrong)).not.toContain(SECRET);
    const { findings, text } = await diagnose(env);
    expect(findings.get('log')).toContain('KAFKA_SASL_PASSWORD');
    expect(findings.get('archive')).toContain('AWS_SECRET_ACCESS_KEY');
    expect(findings.get('Postgres')).toMatch(/password.*DATABASE_URL/);
    expect(text).not.toContain(SECRET);
    for (const variable of ['KAFKA_SASL_PASSWORD', 'AWS_SECRET_ACCESS_KEY', 'DATABASE_URL']) {
      expect(wrong.output()).toContain(variable);
    }
    await end(wrong);
  });

  test('certificates nobody vouched for: each engine says how to trust its own, and then works', async () => {
    const { tlsBrokers = '', tlsCaFile = '', tlsKeyFile = '', tlsCertificateFile = '' } = servers.kafka.extra;
    const postgres = await ownServer('postgres');
    own.push(postgres);
    const key = join(postgres.folder, 'data', 'server.key');
    copyFileSync(tlsKeyFile, key);
    chmodSync(key, 0o600);
    const { uid, gid } = statSync(join(postgres.folder, 'data'));
    chownSync(key, uid, gid);
    copyFileSync(tlsCertificateFile, join(postgres.folder, 'data', 'server.crt'));
    const admin = postgresJs(postgres.settings.DATABASE_URL ?? '', { max: 1 });
    await admin.unsafe('alter system set ssl = on');
    await admin`select pg_reload_conf()`;
    await admin.end();
    const bucket = await freshBucket(servers.s3.settings);
    const { hostname, port } = new URL(bucket.S3_ENDPOINT ?? '');
    const s3 = await startFaultyProxy({ host: hostname, port: Number(port) }, { tlsKeyFile, tlsCertificateFile });
    const env = await settingsWith({
      KAFKA_BROKERS: tlsBrokers,
      KAFKA_TLS: 'true',
      ...bucket,
      S3_ENDPOINT: `https://127.0.0.1:${s3.port}`,
      DATABASE_URL: `${postgres.settings.DATABASE_URL}?sslmode=verify-full`,
    } as Env);
    const wrong = await startProgram(env);
    program = wrong;
    expect(await post(wrong)).toBe('spool');
    await untilNamed(wrong, {
      'log (kafka)': 'KAFKA_TLS_CA_FILE',
      archive: 'NODE_EXTRA_CA_CERTS',
      stream: 'NODE_EXTRA_CA_CERTS',
    });
    const { findings } = await diagnose(env);
    expect(findings.get('log')).toContain('KAFKA_TLS_CA_FILE');
    expect(findings.get('archive')).toMatch(/certificate is not trusted.*S3_ENDPOINT/);
    expect(findings.get('Postgres')).toMatch(/certificate.*NODE_EXTRA_CA_CERTS.*DATABASE_URL/);
    await end(wrong);

    const trusting = { ...env, KAFKA_TLS_CA_FILE: tlsCaFile, NODE_EXTRA_CA_CERTS: tlsCaFile };
    const right = await startProgram(trusting);
    program = right;
    await untilReady(right);
    expect(await post(right)).toBe('broker');
    const reconciled = await runCommand(trusting, ['reconcile', '--wait', '90', '--format', 'json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({ equal: true, counts: { log: 2, archive: 2, speed: 2 } });
    await end(right);
    await s3.close();
  });

  test('a bucket that is not there', async () => {
    const env = await settingsWith({ ...servers.s3.settings, S3_BUCKET: 'no-such-bucket' });
    const wrong = await startProgram(env);
    program = wrong;
    expect(await post(wrong)).toBe('log');
    await untilNamed(wrong, { archive: 'S3_BUCKET' });
    const { findings } = await diagnose(env);
    expect(findings.get('archive')).toMatch(/no such bucket: create it, or correct S3_BUCKET/);
    await end(wrong);
  });

  test('a Kafka that allows nothing: the message names what to grant, and with that it works', async () => {
    const kafka = await ownServer('kafka');
    own.push(kafka);
    await kafka.end('SIGTERM');
    // Clients of the plain listener and the broker itself may do all, others what they are granted.
    const authorizer = 'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer';
    appendFileSync(join(kafka.folder, 'server.properties'), `${authorizer}\nsuper.users=User:ANONYMOUS\n`);
    await kafka.startAgain();
    const env = await settingsWith({
      KAFKA_BROKERS: kafka.extra.saslBrokers ?? '',
      KAFKA_SASL_MECHANISM: 'scram-sha-256',
      KAFKA_SASL_USERNAME: kafka.extra.saslUsername ?? '',
      KAFKA_SASL_PASSWORD: kafka.extra.saslPassword ?? '',
    });
    const barred = await startProgram(env);
    program = barred;
    expect(await post(barred)).toBe('spool');
    const parts = await untilNamed(barred, { 'log (kafka)': 'rpk security acl create' });
    const { findings } = await diagnose(env);
    expect(findings.get('log')).toContain('rpk security acl create --allow-principal User:pinflow');
    await grantByRpk(kafka, parts.get('log (kafka)')?.reason ?? '');
    await untilReady(barred);
    expect(await post(barred)).toBe('broker');
    const reconciled = await runCommand(env, ['reconcile', '--wait', '90', '--format', 'json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({ equal: true, counts: { log: 2, archive: 2, speed: 2 } });
    expect((await runCommand(env, ['dlq', 'list'])).code).toBe(0);
    await end(barred);
  });

  test('Trino that does not let us in', async () => {
    const refusing = Bun.serve({ port: 0, fetch: () => new Response('no', { status: 401 }) });
    const env = await settingsWith({ TRINO_URL: `http://pinflow:${SECRET}@127.0.0.1:${refusing.port}` });
    const { code, stdout, stderr } = await runCommand(env, ['query', 'select 1']);
    await refusing.stop(true);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/TRINO_USER/);
    expect(stderr).not.toContain(SECRET);
  });

  test('Cassandra: wrong password, a keyspace that may not be created, then a node that hangs', async () => {
    const cassandra = await ownServer('cassandra');
    own.push(cassandra);
    await cassandra.end('SIGTERM');
    const secured = [
      'authenticator: PasswordAuthenticator',
      'authorizer: CassandraAuthorizer',
      'role_manager: CassandraRoleManager',
    ];
    appendFileSync(join(cassandra.folder, 'cassandra.yaml'), `\n${secured.join('\n')}\n`);
    await cassandra.startAgain();
    const [contactPoint = ''] = (cassandra.settings.CASSANDRA_CONTACT_POINTS ?? '').split(',');
    const CQL_KEYSPACE = freshKeyspace();
    const asAdmin = openCqlSession({
      name: 'cassandra',
      contactPoints: [contactPoint],
      keyspace: CQL_KEYSPACE,
      datacenter: 'datacenter1',
      username: 'cassandra',
      password: 'cassandra',
      logger: createLogger('silent', 'test'),
    });
    const run = (cql: string) => asAdmin.run((client) => client.execute(cql, [], { prepare: false }));
    await eventually('the superuser is there', SETTLE_MS, () =>
      run("create role if not exists pinflow with password = 'right-enough' and login = true").catch(() => null),
    );
    const env = await settingsWith({
      ...cassandra.settings,
      CQL_KEYSPACE,
      CASSANDRA_USERNAME: 'pinflow',
      CASSANDRA_PASSWORD: SECRET,
    } as Env);

    const locked = await startProgram(env);
    program = locked;
    await untilNamed(locked, { clean: 'CASSANDRA_PASSWORD' });
    const { findings, text } = await diagnose(env);
    expect(findings.get('pin store cassandra')).toContain('Set CASSANDRA_USERNAME and CASSANDRA_PASSWORD.');
    expect(text).not.toContain(SECRET);
    await end(locked);

    const right = { ...env, CASSANDRA_PASSWORD: 'right-enough' };
    const barred = await startProgram(right);
    program = barred;
    expect(await post(barred)).toBe('log');
    const parts = await untilNamed(barred, { clean: 'CREATE KEYSPACE' });
    expect(parts.get('clean')?.reason).toContain(`ALL PERMISSIONS ON KEYSPACE ${CQL_KEYSPACE} TO "pinflow"`);
    // What the message tells the administrator to run.
    for (const statement of (parts.get('clean')?.reason ?? '')
      .split('\n')
      .filter((line) => /^(CREATE|GRANT)/.test(line))) {
      await run(statement.replace(/;$/, ''));
    }
    await untilReady(barred);

    process.kill(cassandra.pid, 'SIGSTOP');
    expect(await post(barred)).toBe('log');
    await untilNamed(barred, { clean: 'cassandra at' });
    await untilMetric(barred, /^pinflow_retries_total\{engine="cassandra"\} [1-9]/m);
    process.kill(cassandra.pid, 'SIGCONT');
    await untilReady(barred);
    const reconciled = await runCommand(right, ['reconcile', '--wait', '90', '--format', 'json']);
    expect(JSON.parse(reconciled.stdout)).toMatchObject({ equal: true, counts: { speed: 2, cassandra: 2 } });
    await end(barred);
    await asAdmin.close();
  });
});
