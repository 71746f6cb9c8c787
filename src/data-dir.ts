import { Database } from 'bun:sqlite';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PinflowError } from './errors.ts';

/**
 * What lies in DATA_DIR beside the engines: locks, so that two programs never own the same part, and the address of the
 * embedded Postgres, so that commands beside a running program find it.
 */
export type LockName = 'edge' | 'postgres';

export type Lock = { readonly release: () => void };

type Holder = { readonly pid: number; readonly command: string; readonly since: string };

/** Keeps held locks reachable: a Database that is collected as garbage lets go of its lock. */
const held = new Set<Database>();

const holderFile = (dir: string, name: LockName) => join(dir, `${name}.holder.json`);

const readJson = <T>(file: string): T | null => {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch {
    return null;
  }
};

const takeLock = (dir: string, name: LockName): Database | null => {
  mkdirSync(dir, { recursive: true });
  const lock = new Database(join(dir, `${name}.lock`), { create: true });
  try {
    // An open exclusive transaction is a lock of the operating system: a process that dies by kill -9 lets go of it.
    lock.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if (error instanceof Error && /locked|busy/i.test(error.message)) return null;
    throw error;
  }
};

/** Takes the lock, or answers null when another process has it. */
export const tryLock = (dir: string, name: LockName, command: string): Lock | null => {
  const lock = takeLock(dir, name);
  if (lock === null) return null;
  const holder: Holder = { pid: process.pid, command, since: new Date().toISOString() };
  writeFileSync(holderFile(dir, name), JSON.stringify(holder));
  held.add(lock);
  return {
    release: () => {
      if (!held.delete(lock)) return;
      rmSync(holderFile(dir, name), { force: true });
      lock.close();
    },
  };
};

/** @throws PinflowError `in_use` that says which process holds it */
export const lockOrThrow = (dir: string, name: LockName, command: string): Lock => {
  const lock = tryLock(dir, name, command);
  if (lock !== null) return lock;
  const holder = readJson<Holder>(holderFile(dir, name));
  const who = holder ? `process ${holder.pid} (${holder.command}, since ${holder.since})` : 'another process';
  throw new PinflowError(
    'in_use',
    `the ${name} of DATA_DIR ${resolve(dir)} is held by ${who}: stop it, or set DATA_DIR to another folder`,
  );
};

const addressFile = (dir: string) => join(dir, 'postgres.url');

/** Where the embedded Postgres of a running program listens, or null. Loopback only; readable by this user only. */
export const readPostgresAddress = (dir: string): string | null => {
  try {
    return readFileSync(addressFile(dir), 'utf8').trim() || null;
  } catch {
    return null;
  }
};

export const writePostgresAddress = (dir: string, url: string): void =>
  writeFileSync(addressFile(dir), `${url}\n`, { mode: 0o600 });

export const removePostgresAddress = (dir: string): void => rmSync(addressFile(dir), { force: true });
