import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../../src/retry.ts';
import { testVariables } from './settings.ts';

/** Longest a server may take to end by itself before it is killed, milliseconds. Cassandra flushes for about two seconds. */
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 50;

/** A process that outlives this one, its output in `<folder>/output.txt`. @returns its pid */
export const launch = (
  command: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>> = {},
): number => {
  const output = openSync(join(folder, 'output.txt'), 'a');
  const child = Bun.spawn([...command], {
    cwd: folder,
    env: { ...testVariables(), ...env },
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    detached: true,
  });
  child.unref();
  closeSync(output);
  return child.pid;
};

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
};

const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // No /proc: macOS.
    return Bun.spawnSync(['ps', '-ww', '-o', 'command=', '-p', String(pid)]).stdout.toString();
  }
};

/** True when the process is the one started on this folder, and not another that was given its pid since. */
export const isOurs = (pid: number, folder: string): boolean => isAlive(pid) && commandLine(pid).includes(folder);

const ended = async (pid: number, folder: string, timeoutMs: number): Promise<boolean> => {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(POLL_MS)) {
    if (!isOurs(pid, folder)) return true;
  }
  return false;
};

/** Ends the process that was started on this folder, if it still runs. */
export const stopProcess = async (pid: number, folder: string): Promise<void> => {
  if (!isOurs(pid, folder)) return;
  process.kill(pid, 'SIGTERM');
  if (await ended(pid, folder, STOP_TIMEOUT_MS)) return;
  process.kill(pid, 'SIGKILL');
  await ended(pid, folder, STOP_TIMEOUT_MS);
};

/** The last lines a server wrote, for the message when it does not start. */
export const lastOutput = (folder: string): string => {
  try {
    return readFileSync(join(folder, 'output.txt'), 'utf8').trimEnd().split('\n').slice(-15).join('\n');
  } catch {
    return '(no output)';
  }
};
