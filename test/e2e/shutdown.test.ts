import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archivePartitions, listManifest } from '../../src/blob/archive.ts';
import { openFsBlobStore } from '../../src/blob/fs.ts';
import { somePin } from '../../src/edge/fixture.ts';
import { freshDatabase, freshName } from '../servers/fresh.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { recordsOf } from './log-records.ts';
import { type Env, eventually, type Running, startProgram } from './program.ts';

/** SIGTERM in the middle of load: what was acked is in the log, a drain ends within DRAIN_TIMEOUT_MS, a second signal ends at once. */
setDefaultTimeout(240_000);
/** Above its limit only what closing sockets and ending threads takes on a busy machine, milliseconds. */
const MARGIN_MS = 10_000;
const CLIENTS = 4;
const PINS_BEFORE = 400;

const dirs: string[] = [];
const running: Running[] = [];
afterAll(async () => {
  for (const program of running) await program.kill('SIGKILL');
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

const fresh = (env: Env): Env => {
  const DATA_DIR = mkdtempSync(join(tmpdir(), 'pinflow-shutdown-'));
  dirs.push(DATA_DIR);
  // Long, so that only a drain writes what is buffered.
  return { DATA_DIR, ARCHIVE_MAX_SECONDS: '3600', CLEAN_CRON: 'off', ...env };
};

const start = async (env: Env): Promise<Running> => {
  const program = await startProgram(env);
  running.push(program);
  return program;
};

/** Posts from several clients until the program takes no more. */
const loadOn = ({ url }: Running) => {
  const acked = new Set<string>();
  const client = async () => {
    for (;;) {
      const pin = somePin();
      const response = await fetch(`${url}/pin/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(pin),
      }).catch(() => null);
      if (response === null) return;
      if (response.status === 200) acked.add(pin.unique_id as string);
      await response.text().catch(() => '');
    }
  };
  const done = Promise.all(Array.from({ length: CLIENTS }, client));
  return { acked, done };
};

const untilLoaded = (acked: ReadonlySet<string>) =>
  eventually(`${PINS_BEFORE} pins are acked`, 60_000, async () => (acked.size >= PINS_BEFORE ? true : null));

/** @returns the exit code. @throws when the program outlives its limit */
const exitWithin = async ({ exited, output }: Running, limitMs: number): Promise<number> => {
  const late = Bun.sleep(limitMs + MARGIN_MS).then(() => {
    throw new Error(`it still runs ${limitMs + MARGIN_MS} ms after the signal:\n${output()}`);
  });
  late.catch(() => {});
  return Promise.race([exited, late]);
};

const idsInLog = async (env: Env): Promise<readonly string[]> => (await recordsOf(env)).map(({ key }) => key ?? '');

const missingIn = (acked: ReadonlySet<string>, ids: readonly string[]) => {
  const there = new Set(ids);
  return [...acked].filter((id) => !there.has(id));
};

describe('SIGTERM in the middle of load', () => {
  test('drains, with all that was acked in the log and all of the log in the archive, and exits 0', async () => {
    const env = fresh({ DRAIN_TIMEOUT_MS: '15000' });
    const program = await start(env);
    const { acked, done } = loadOn(program);
    await untilLoaded(acked);
    // What the archiver has not been given before the signal stays in the log for the next start.
    await eventually('the workers are ready', 60_000, async () =>
      (await fetch(`${program.url}/readyz`)).status === 200 ? true : null,
    );
    void program.kill('SIGTERM');
    expect(await exitWithin(program, 15_000)).toBe(0);
    await done;
    expect(program.output()).toContain('drained');
    const ids = await idsInLog(env);
    expect(missingIn(acked, ids)).toEqual([]);

    const store = openFsBlobStore({ dir: join(env.DATA_DIR ?? '', 'archive') });
    let archived = 0;
    for (const partition of await archivePartitions(store)) {
      for await (const entry of listManifest(store, partition)) archived += entry.pins;
    }
    await store.close();
    expect(archived).toBeGreaterThan(0);
    expect(archived).toBeLessThanOrEqual(ids.length);
  });

  test('a second one ends it at once, while a request still holds the drain up; what was acked is in the log', async () => {
    const env = fresh({ DRAIN_TIMEOUT_MS: '600000', REQUEST_TIMEOUT_MS: '600000' });
    const program = await start(env);
    const { acked, done } = loadOn(program);
    await untilLoaded(acked);
    const { hostname, port } = new URL(program.url);
    const slow = connect(Number(port), hostname);
    slow.on('error', () => {});
    slow.write(
      `POST /pin/ HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{`,
    );
    // Its headers should be there before the signal.
    await untilLoaded(acked);
    await Bun.sleep(500);
    void program.kill('SIGTERM');
    await eventually('it drains', 60_000, async () => (program.output().includes('draining') ? true : null));
    void program.kill('SIGTERM');
    expect(await exitWithin(program, 0)).toBe(143);
    slow.destroy();
    await done;
    expect(missingIn(acked, await idsInLog(env))).toEqual([]);
  });
});

const shared = [await testServer('kafka'), await testServer('postgres')];
const areOurs = shared.every((server) => 'from' in server && server.from === 'packages');
if (!areOurs && !shared.some((server) => 'skip' in server)) console.warn('skipped: a hang needs servers of our own');

describe.skipIf(!areOurs)('SIGTERM while the servers hang', () => {
  let broker: OwnServer | undefined;
  let postgres: OwnServer | undefined;
  afterAll(async () => {
    for (const server of [broker, postgres]) {
      if (server === undefined) continue;
      process.kill(server.pid, 'SIGCONT');
      await server.stop();
    }
  });

  test('exits 0 within DRAIN_TIMEOUT_MS all the same, and the next start has what was acked', async () => {
    [broker, postgres] = await Promise.all([ownServer('kafka'), ownServer('postgres')]);
    const database = await freshDatabase(postgres.settings);
    const env = fresh({
      ...broker.settings,
      ...database.settings,
      PIN_TOPIC: freshName('pins'),
      SPOOL_DEADLINE_MS: '500',
      DRAIN_TIMEOUT_MS: '3000',
    } as Env);
    const program = await start(env);
    const { acked, done } = loadOn(program);
    await untilLoaded(acked);
    await eventually('the workers are ready', 60_000, async () =>
      (await fetch(`${program.url}/readyz`)).status === 200 ? true : null,
    );
    for (const server of [broker, postgres]) process.kill(server.pid, 'SIGSTOP');
    const before = acked.size;
    await eventually('pins go to the spool', 60_000, async () => (acked.size > before + PINS_BEFORE ? true : null));
    void program.kill('SIGTERM');
    expect(await exitWithin(program, 3000)).toBe(0);
    await done;
    for (const server of [broker, postgres]) process.kill(server.pid, 'SIGCONT');
    const next = await start(env);
    await eventually('the spool is empty', 60_000, async () => {
      const page = await (await fetch(`${next.url}/metrics`)).text();
      return /^pinflow_spool_records 0$/m.test(page) ? true : null;
    });
    expect(missingIn(acked, await idsInLog(env))).toEqual([]);
    void next.kill('SIGTERM');
    expect(await exitWithin(next, 3000)).toBe(0);
  });
});
