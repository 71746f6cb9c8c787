import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../../src/retry.ts';
import { cassandra } from './cassandra.ts';
import { kafka } from './kafka.ts';
import { postgres } from './postgres.ts';
import { endBy, isAlive, isOurs, lastOutput, launchAgain, stopProcess } from './process.ts';
import { type Recipe, SERVER_NAMES, type ServerName, type Settings, type Started } from './recipe.ts';
import { s3 } from './s3.ts';
import { serverMode, testVariables } from './settings.ts';
import { forgetRunning, type Running, readRunning, runningKeys, withLock, writeRunning } from './state.ts';
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

/** Whether it answers within `ms` milliseconds, as long as it runs. */
const answersWithin = async (
  ms: number,
  { answers }: Recipe,
  settings: Settings,
  runs: () => boolean,
): Promise<boolean> => {
  for (const deadline = Date.now() + ms; ; await sleep(READY_POLL_MS)) {
    if (await answers(settings)) return true;
    if (!runs() || Date.now() >= deadline) return false;
  }
};

const untilAnswers = async (recipe: Recipe, { pid, settings }: Started, folder: string): Promise<void> => {
  if (await answersWithin(recipe.startTimeoutMs, recipe, settings, () => isAlive(pid))) return;
  const output = lastOutput(folder);
  await stopProcess(pid, folder);
  rmSync(folder, { recursive: true, force: true });
  throw new Error(`${recipe.name} did not start:\n${output}`);
};

const launchAndAwait = async (
  recipe: Recipe,
  needed: Settings,
  port?: number,
): Promise<Started & { folder: string }> => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `pinflow-test-${recipe.name}-`)));
  // Root's Postgres runs as another user, who must get through to its data.
  chmodSync(folder, 0o755);
  const started = await recipe.start({ folder, needed, port }).catch((error: unknown) => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  await untilAnswers(recipe, started, folder);
  return { ...started, folder };
};

const stopRunning = async (running: Running): Promise<void> => {
  await stopProcess(running.pid, running.folder);
  rmSync(running.folder, { recursive: true, force: true });
  forgetRunning(running.key);
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

export type FindOptions = {
  /** It goes on running after this process, until `stopServers`. */
  readonly keep: boolean;
  /** What is missing is downloaded; else there is no server. */
  readonly download: boolean;
};

/** The settings of the servers this one needs. @returns a reason when one of them is not there */
const settingsNeeded = async (recipe: Recipe, options: FindOptions): Promise<Settings | string> => {
  const needed = await Promise.all(recipe.needs.map((name) => findOrStart(name, options)));
  const missing = needed.find((server) => 'skip' in server);
  if (missing !== undefined && 'skip' in missing) return missing.skip;
  return Object.assign({}, ...needed.map((server) => server.settings)) as Settings;
};

/** A busy machine makes a server miss a probe: one whose process runs is given up only after this, milliseconds. */
const PATIENCE_MS = 60_000;

const isUsable = async (
  recipe: Recipe,
  { pid, folder, needed, settings }: Running,
  needs: Settings,
): Promise<boolean> => {
  const runs = () => isOurs(pid, folder);
  return runs() && Bun.deepEquals(needed, needs) && (await answersWithin(PATIENCE_MS, recipe, settings, runs));
};

const fromPackages = async (recipe: Recipe, options: FindOptions): Promise<ServerHandle | NoServer> => {
  const { name } = recipe;
  const { keep, download } = options;
  const needed = await settingsNeeded(recipe, options);
  if (typeof needed === 'string') return noServer(name, needed);
  return withLock(name, async () => {
    const before = readRunning(name);
    const usable = before !== null && (await isUsable(recipe, before, needed));
    if (before !== null && !usable) await stopRunning(before);
    const missing = usable ? null : recipe.missing();
    if (missing !== null && !download) return noServer(name, `not on this machine: ${missing}`);
    if (missing !== null) await recipe.install();
    const now = usable ? before : { ...(await launchAndAwait(recipe, needed)), users: [], kept: false };
    const users = [...new Set([...now.users.filter(isAlive), ...(keep ? [] : [process.pid])])];
    const { pid, folder, settings, extra } = now;
    writeRunning({ name, key: name, pid, folder, settings, extra, needed, users, kept: now.kept || keep });
    if (!keep) watchThisRun();
    return { name, from: 'packages', settings, extra };
  });
};

const noServer = (name: ServerName, reason: string): NoServer => ({
  skip: `no ${name}: ${reason}`,
  settings: {},
  extra: {},
});

export const findOrStart = async (name: ServerName, options: FindOptions): Promise<ServerHandle | NoServer> => {
  const recipe = RECIPES[name];
  const settings = recipe.fromVariables(testVariables());
  if (settings !== null) {
    if (await recipe.answers(settings)) return { name, from: 'variables', settings, extra: {} };
    throw new Error(`the TEST_ variables of ${name} lead to nothing that answers: ${Object.keys(settings).join(', ')}`);
  }
  if (await recipe.answers(recipe.compose)) return { name, from: 'compose', settings: recipe.compose, extra: {} };
  return fromPackages(recipe, options);
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
  const find = async () => {
    const mode = serverMode();
    if (mode === 'none') return noServer(name, 'PINFLOW_TEST_SERVERS=none');
    return findOrStart(name, { keep: false, download: mode === 'all' });
  };
  const found = find().then((server) => {
    if ('skip' in server) console.warn(`skipped: ${server.skip}`);
    return server;
  });
  inThisRun.set(name, found);
  return found;
};

export type OwnServer = ServerHandle & {
  /** Its data and its configuration, which may be changed between `end` and `startAgain`. */
  readonly folder: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** Ends it by a signal, such as SIGKILL; its data stays. */
  readonly end: (signal: NodeJS.Signals) => Promise<void>;
  /** Starts it again on its data and port, after `end`. Resolves when it answers. */
  readonly startAgain: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

let owned = 0;

/** A server for one test alone, which may stop and kill it. Call only where `testServer` found one `from` packages. */
export const ownServer = async (name: ServerName, port?: number): Promise<OwnServer> => {
  const recipe = RECIPES[name];
  const needed = await settingsNeeded(recipe, { keep: false, download: false });
  if (typeof needed === 'string') throw new Error(needed);
  const started = await launchAndAwait(recipe, needed, port);
  const { folder, settings, extra } = started;
  owned += 1;
  const key = `${name}-${process.pid}-${owned}`;
  let running: Running = { name, key, ...started, needed, users: [process.pid], kept: false };
  writeRunning(running);
  watchThisRun();
  return {
    name,
    from: 'packages',
    settings,
    extra,
    folder,
    get pid() {
      return running.pid;
    },
    end: (signal) => endBy(running.pid, folder, signal),
    startAgain: async () => {
      running = { ...running, pid: launchAgain(folder) };
      writeRunning(running);
      await untilAnswers(recipe, running, folder);
    },
    stop: () => stopRunning(running),
  };
};

/** Stops servers started here. @param only those without a run that uses them (and not kept) */
export const stopServers = async (names: readonly ServerName[], only: 'unused' | 'all'): Promise<void> => {
  // In the reverse order: what needs another goes before it.
  for (const name of SERVER_NAMES.filter((n) => names.includes(n)).reverse()) {
    await withLock(name, async () => {
      for (const key of runningKeys()) {
        const running = readRunning(key);
        if (running?.name !== name) continue;
        const users = running.users.filter(isAlive);
        if (only === 'all' || (users.length === 0 && !running.kept)) await stopRunning(running);
        else writeRunning({ ...running, users });
      }
    });
  }
};
