import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../../src/retry.ts';
import { cassandra } from './cassandra.ts';
import { kafka } from './kafka.ts';
import { postgres } from './postgres.ts';
import { isAlive, isOurs, lastOutput, stopProcess } from './process.ts';
import { type Recipe, SERVER_NAMES, type ServerName, type Settings, type Started } from './recipe.ts';
import { s3 } from './s3.ts';
import { serverMode, testVariables } from './settings.ts';
import { forgetRunning, type Running, readRunning, withLock, writeRunning } from './state.ts';
import { trino } from './trino.ts';

export type ServerHandle = {
  readonly name: ServerName;
  /** Where it was found: in TEST_ variables, on compose.yaml's ports, or started here from packages. */
  readonly from: 'variables' | 'compose' | 'packages';
  /** pinflow's variables that lead to it: `readConfig({ ...kafka.settings, PIN_TOPIC: freshName('pins') })`. */
  readonly settings: Settings;
  /** Of a server started here only, such as Kafka's `saslBrokers`, `tlsBrokers` and `tlsCaFile`. */
  readonly extra: Settings;
};

/** Why there is no server. The empty settings let a test file be read as far as its `describe.skipIf`. */
export type NoServer = { readonly skip: string; readonly settings: Settings; readonly extra: Settings };

const RECIPES: Readonly<Record<ServerName, Recipe>> = { kafka, cassandra, s3, postgres, trino };
const READY_POLL_MS = 100;

const launchAndAwait = async (
  recipe: Recipe,
  needed: Settings,
  port?: number,
): Promise<Started & { folder: string }> => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `pinflow-test-${recipe.name}-`)));
  // Root's Postgres runs as another user, who must get through to its data.
  chmodSync(folder, 0o755);
  const started = await recipe.start({ folder, needed, port });
  const deadline = Date.now() + recipe.startTimeoutMs;
  while (!(await recipe.answers(started.settings))) {
    if (isAlive(started.pid) && Date.now() < deadline) await sleep(READY_POLL_MS);
    else {
      const output = lastOutput(folder);
      await stopProcess(started.pid, folder);
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`${recipe.name} did not start:\n${output}`);
    }
  }
  return { ...started, folder };
};

const stopRunning = async (running: Running): Promise<void> => {
  await stopProcess(running.pid, running.folder);
  rmSync(running.folder, { recursive: true, force: true });
  forgetRunning(running.name);
};

/** A process that ends what this run started once this run is gone, however it went: `bun test` gives no exit event. */
let watched = false;
const watchThisRun = () => {
  if (watched) return;
  watched = true;
  const main = join(import.meta.dir, 'main.ts');
  const options = { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore', detached: true } as const;
  Bun.spawn([process.execPath, main, 'watch', String(process.pid)], options).unref();
};

/** The settings of the servers this one needs. @returns a reason when one of them is not there */
const settingsNeeded = async (recipe: Recipe, keep: boolean): Promise<Settings | string> => {
  const needed = await Promise.all(recipe.needs.map((name) => findOrStart(name, keep)));
  const missing = needed.find((server) => 'skip' in server);
  if (missing !== undefined && 'skip' in missing) return missing.skip;
  return Object.assign({}, ...needed.map((server) => server.settings)) as Settings;
};

const fromPackages = async (recipe: Recipe, keep: boolean): Promise<ServerHandle | NoServer> => {
  const needed = await settingsNeeded(recipe, keep);
  if (typeof needed === 'string') return noServer(recipe.name, needed);
  return withLock(recipe.name, async () => {
    const before = readRunning(recipe.name);
    const usable =
      before !== null &&
      isOurs(before.pid, before.folder) &&
      Bun.deepEquals(before.needed, needed) &&
      (await recipe.answers(before.settings));
    if (before !== null && !usable) await stopRunning(before);
    const missing = usable ? null : recipe.missing();
    if (missing !== null && serverMode() !== 'all') return noServer(recipe.name, `not on this machine: ${missing}`);
    if (missing !== null) await recipe.install();
    const now = usable ? before : { ...(await launchAndAwait(recipe, needed)), users: [], kept: false };
    const users = [...new Set([...now.users.filter(isAlive), ...(keep ? [] : [process.pid])])];
    const { pid, folder, settings, extra } = now;
    writeRunning({ name: recipe.name, pid, folder, settings, extra, needed, users, kept: now.kept || keep });
    if (!keep) watchThisRun();
    return { name: recipe.name, from: 'packages', settings, extra };
  });
};

const noServer = (name: ServerName, reason: string): NoServer => ({
  skip: `no ${name}: ${reason}`,
  settings: {},
  extra: {},
});

/** @param keep it goes on running after this process, until `stopServers` */
export const findOrStart = async (name: ServerName, keep: boolean): Promise<ServerHandle | NoServer> => {
  const recipe = RECIPES[name];
  if (serverMode() === 'none') return noServer(name, 'PINFLOW_TEST_SERVERS=none');
  const settings = recipe.fromVariables(testVariables());
  if (settings !== null) {
    if (await recipe.answers(settings)) return { name, from: 'variables', settings, extra: {} };
    throw new Error(`the TEST_ variables of ${name} lead to nothing that answers: ${Object.keys(settings).join(', ')}`);
  }
  if (await recipe.answers(recipe.compose)) return { name, from: 'compose', settings: recipe.compose, extra: {} };
  return fromPackages(recipe, keep);
};

const inThisRun = new Map<ServerName, Promise<ServerHandle | NoServer>>();

/**
 * A real server for tests, the same one for all files of a run; started if need be, and stopped after the last run that uses it.
 * A skip prints why. With PINFLOW_TEST_SERVERS=all there is no skip: what is missing is downloaded.
 *
 * @example
 * const kafka = await testServer('kafka');
 * describe.skipIf('skip' in kafka)('the Kafka log', () => { readConfig(kafka.settings) ... });
 * @throws Error when it should be there and is not
 */
export const testServer = (name: ServerName): Promise<ServerHandle | NoServer> => {
  const known = inThisRun.get(name);
  if (known !== undefined) return known;
  const found = findOrStart(name, false).then((server) => {
    if ('skip' in server) console.warn(`skipped: ${server.skip}`);
    return server;
  });
  inThisRun.set(name, found);
  return found;
};

export type OwnServer = ServerHandle & { readonly stop: () => Promise<void>; readonly pid: number };

/** A server for one test alone, which may stop and kill it. Call only where `testServer` found one `from` packages. */
export const ownServer = async (name: ServerName, port?: number): Promise<OwnServer> => {
  const needed = await settingsNeeded(RECIPES[name], false);
  if (typeof needed === 'string') throw new Error(needed);
  const { pid, folder, settings, extra } = await launchAndAwait(RECIPES[name], needed, port);
  const stop = async () => {
    await stopProcess(pid, folder);
    rmSync(folder, { recursive: true, force: true });
  };
  return { name, from: 'packages', settings, extra, pid, stop };
};

/** Stops servers started here. @param only those without a run that uses them (and not kept) */
export const stopServers = async (names: readonly ServerName[], only: 'unused' | 'all'): Promise<void> => {
  // In the reverse order: what needs another goes before it.
  for (const name of SERVER_NAMES.filter((n) => names.includes(n)).reverse()) {
    await withLock(name, async () => {
      const running = readRunning(name);
      if (running === null) return;
      const users = running.users.filter(isAlive);
      if (only === 'all' || (users.length === 0 && !running.kept)) await stopRunning(running);
      else writeRunning({ ...running, users });
    });
  }
};
