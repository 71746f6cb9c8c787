import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../../src/retry.ts';
import { testVariables } from './settings.ts';

/** Longest a server may take to end by itself before it is killed, milliseconds. Cassandra flushes for about two seconds. */
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 50;

type Launch = { readonly command: readonly string[]; readonly env: Readonly<Record<string, string>> };

/** By folder: what this process launched there. */
const launches = new Map<string, Launch>();

/** A process that outlives this one, its output in `<folder>/output.txt`. @returns its pid */
export const launch = (
  command: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>> = {},
): number => {
  launches.set(folder, { command, env });
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

/** Launches what was launched in this folder before, which has ended, on the data it left there. @returns its pid */
export const launchAgain = (folder: string): number => {
  const before = launches.get(folder);
  if (before === undefined) throw new Error(`this process launched nothing in ${folder}`);
  return launch(before.command, folder, before.env);
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

/** Sends a signal and waits until the process has ended. @throws Error when it does not end by that */
export const endBy = async (pid: number, folder: string, signal: NodeJS.Signals): Promise<void> => {
  process.kill(pid, signal);
  if (!(await ended(pid, folder, STOP_TIMEOUT_MS)))
    throw new Error(`${signal} did not end process ${pid} of ${folder}`);
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
