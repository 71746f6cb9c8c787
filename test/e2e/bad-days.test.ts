import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgresJs from 'postgres';
import { openCqlSession } from '../../src/db/pin-store/cql-session.ts';
import { somePin } from '../../src/edge/fixture.ts';
import { createLogger } from '../../src/logger.ts';
import { freshBucket, freshDatabase, freshKeyspace, freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { type Env, eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * Engines that are away, wrong or not set up, under the real program: it starts, takes pins, names what to put right in /readyz, in
 * `doctor` and in its log, never shows a secret, and goes on by itself once it is right.
 */
setDefaultTimeout(300_000);
const NOTICED_MS = 60_000;
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

type Part = { readonly part: string; readonly ready: boolean; readonly reason?: string };

const partsOf = async ({ url }: Running): Promise<ReadonlyMap<string, Part>> => {
  const response = await fetch(`${url}/readyz`);
  const { parts, ready } = (await response.json()) as { parts: Part[]; ready: boolean };
  expect(response.status).toBe(ready ? 200 : 503);
  return new Map(parts.map((part) => [part.part, part]));
};

const post = async ({ url }: Running): Promise<string | null> => {
  const body = JSON.stringify(somePin());
  const response = await fetch(`${url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  return response.headers.get('x-pin-durability');
};

const metricsOf = async ({ url }: Running): Promise<string> => (await fetch(`${url}/metrics`)).text();

/** Workers post theirs every second. */
const untilMetric = (program: Running, line: RegExp) =>
  eventually(`/metrics has ${line}`, NOTICED_MS, async () => (line.test(await metricsOf(program)) ? true : null));

/** Waits until each of these parts is not ready for a reason that names this variable. */
const untilNamed = (program: Running, wanted: Readonly<Record<string, string>>) =>
  eventually(`/readyz names ${JSON.stringify(wanted)}`, NOTICED_MS, async () => {
    const parts = await partsOf(program);
    const named = Object.entries(wanted).every(([part, variable]) => parts.get(part)?.reason?.includes(variable));
    return named ? parts : null;
  }).catch(async (error) => {
    throw new Error(`${String(error)}: ${JSON.stringify([...(await partsOf(program)).values()])}`);
  });

const untilReady = (program: Running) =>
  eventually('all parts are ready', SETTLE_MS, async () => {
    const parts = await partsOf(program);
    return parts.values().every(({ ready }) => ready) ? true : null;
  }).catch(async (error) => {
    throw new Error(`${String(error)}: ${JSON.stringify([...(await partsOf(program)).values()])}`);
  });

/** What `doctor` says of each part that fails. */
const diagnose = async (
  env: Env,
): Promise<{ readonly findings: ReadonlyMap<string, string>; readonly text: string }> => {
  const { code, stdout, stderr } = await runCommand(env, ['doctor', '--format', 'json']);
  const parsed = JSON.parse(stdout) as { part: string; ok: boolean; detail: string }[];
  expect(code).toBe(parsed.every(({ ok }) => ok) ? 0 : 1);
  const failed = parsed.filter(({ ok }) => !ok).map(({ part, detail }) => [part, detail] as const);
  return { findings: new Map(failed), text: stdout + stderr };
};

describe.skipIf(!areOurs)('a program whose engines are not as they should be', () => {
  const dirs: string[] = [];
  const drops: (() => Promise<void>)[] = [];
  const own: OwnServer[] = [];
  let program: Running | undefined;

  afterAll(async () => {
    await program?.kill('SIGKILL');
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

  test('a certificate nobody vouched for, and a bucket that is not there', async () => {
    const env = await settingsWith({
      KAFKA_BROKERS: servers.kafka.extra.tlsBrokers ?? '',
      KAFKA_TLS: 'true',
      ...servers.s3.settings,
      S3_BUCKET: 'no-such-bucket',
    });
    const wrong = await startProgram(env);
    program = wrong;
    expect(await post(wrong)).toBe('spool');
    await untilNamed(wrong, { 'log (kafka)': 'KAFKA_TLS_CA_FILE', archive: 'S3_BUCKET' });
    const { findings } = await diagnose(env);
    expect(findings.get('log')).toContain('KAFKA_TLS_CA_FILE');
    expect(findings.get('archive')).toMatch(/no such bucket: create it, or correct S3_BUCKET/);
    await end(wrong);
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
