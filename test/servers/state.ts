import { Database } from 'bun:sqlite';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../../src/retry.ts';
import type { ServerName, Settings } from './recipe.ts';
import { cacheFolder } from './settings.ts';

/** A server started here, as every test run on this machine can read it: `<cache>/running/<key>.json`. */
export type Running = {
  readonly name: ServerName;
  /** Its name when it is shared, else something longer. */
  readonly key: string;
  readonly pid: number;
  readonly folder: string;
  readonly settings: Settings;
  readonly extra: Settings;
  /** Settings of other servers it was started with: when those moved, it must be started anew. */
  readonly needed: Settings;
  /** Test runs that use it, by pid; the last one to end stops it. */
  readonly users: readonly number[];
  /** Started by `main.ts start`: runs until `main.ts stop`. */
  readonly kept: boolean;
};

const folder = () => join(cacheFolder(), 'running');
const SUFFIX = '.json';
const stateFile = (key: string) => join(folder(), `${key}${SUFFIX}`);

export const readRunning = (key: string): Running | null =>
  existsSync(stateFile(key)) ? (JSON.parse(readFileSync(stateFile(key), 'utf8')) as Running) : null;

/** The keys of all that runs. */
export const runningKeys = (): readonly string[] =>
  existsSync(folder())
    ? readdirSync(folder()).flatMap((file) => (file.endsWith(SUFFIX) ? file.slice(0, -SUFFIX.length) : []))
    : [];

/** Whole or not at all, as others read it without the lock. */
export const writeRunning = (running: Running): void => {
  mkdirSync(folder(), { recursive: true });
  const unfinished = `${stateFile(running.key)}.${process.pid}`;
  writeFileSync(unfinished, `${JSON.stringify(running, null, 2)}\n`);
  renameSync(unfinished, stateFile(running.key));
};

export const forgetRunning = (key: string): void => rmSync(stateFile(key), { force: true });

/** How often a held lock is asked for again, and the longest it is waited for: another run may be downloading. Milliseconds. */
const LOCK_POLL_MS = 100;
const LOCK_TIMEOUT_MS = 20 * 60_000;

/** One process at a time starts or stops a server. SQLite's lock, because it goes when its holder dies. */
export const withLock = async <T>(name: ServerName, work: () => Promise<T>): Promise<T> => {
  mkdirSync(folder(), { recursive: true });
  const lock = new Database(join(folder(), `${name}.lock`));
  try {
    for (const deadline = Date.now() + LOCK_TIMEOUT_MS; ; await sleep(LOCK_POLL_MS)) {
      try {
        lock.run('BEGIN EXCLUSIVE');
        break;
      } catch (error) {
        const busy = (error as { code?: string }).code === 'SQLITE_BUSY';
        if (!busy || Date.now() > deadline) throw error;
      }
    }
    return await work();
  } finally {
    lock.close();
  }
};
