import { closeSync, openSync } from 'node:fs';
import { PinflowError } from '../errors.ts';
import { withDeadline } from '../retry.ts';
import type { WorkerRole } from '../workers/protocol.ts';
import type { FromParent, ToParent } from './parent.ts';

const CLI = Bun.fileURLToPath(new URL('../cli.ts', import.meta.url));

/** A drain has its own limit (DRAIN_TIMEOUT_MS); a program that takes longer by this many milliseconds does not keep it. */
const DRAIN_MARGIN_MS = 5000;
/** Longest until a program that was started is up, milliseconds: seconds, and many times that on a busy machine. */
const START_TIMEOUT_MS = 120_000;

/** The real program as a process of its own, to be injured. It may be killed and started again any number of times. */
export type Subject = {
  readonly command: string;
  /** Resolves when it is dead. */
  readonly kill: () => Promise<void>;
  /** Starts it again after `kill` or `drain`. */
  readonly start: () => void;
  /** SIGSTOP, or SIGCONT. */
  readonly pause: () => void;
  readonly goOn: () => void;
  /** Ends the worker threads of a role where they stand. once the program is up. @returns how many it ended; 0 when they are down already */
  readonly endWorker: (role: WorkerRole) => Promise<number>;
  /** SIGTERM, once the program is up. @throws PinflowError `timeout` when it does not end in time, `internal` when its exit code is not 0 */
  readonly drain: () => Promise<void>;
  /** Rejects when the program ends without having been asked to. */
  readonly failed: Promise<never>;
};

export type SubjectOptions = {
  /** `up` or `work`. */
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  /** File its output is appended to. */
  readonly output: string;
  /** DRAIN_TIMEOUT_MS, milliseconds. */
  readonly drainTimeoutMs: number;
};

export const startSubject = ({ command, env, output, drainTimeoutMs }: SubjectOptions): Subject => {
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  /** Processes that are to end. */
  const asked = new WeakSet<object>();

  let started = Promise.resolve();
  let answered = Promise.withResolvers<number>();

  const spawn = () => {
    // Its own, as a word of the process before it may still be on its way.
    const up = Promise.withResolvers<void>();
    started = up.promise;
    const out = openSync(output, 'a');
    const spawned = Bun.spawn([process.execPath, CLI, command], {
      env: { ...env },
      stdin: 'ignore',
      stdout: out,
      stderr: out,
      ipc: (message: ToParent) => ('started' in message ? up.resolve() : answered.resolve(message.endedThreads)),
    });
    closeSync(out);
    void spawned.exited.then((code) => {
      if (asked.has(spawned)) return;
      const message = `\`${command}\` ended by itself, with exit code ${code}: ${output} has its last words`;
      failure.reject(new PinflowError('internal', message));
    });
    return spawned;
  };

  let child = spawn();
  const untilUp = (): Promise<void> => {
    const late = () => new PinflowError('timeout', `\`${command}\` is not up after ${START_TIMEOUT_MS} ms`);
    return withDeadline(started, START_TIMEOUT_MS, late);
  };
  const end = (signal: NodeJS.Signals): Promise<number> => {
    asked.add(child);
    child.kill(signal);
    return child.exited;
  };

  return {
    command,
    start: () => {
      child = spawn();
    },
    kill: async () => void (await end('SIGKILL')),
    pause: () => child.kill('SIGSTOP'),
    goOn: () => child.kill('SIGCONT'),
    endWorker: async (role) => {
      await untilUp();
      answered = Promise.withResolvers();
      child.send({ endWorker: role } satisfies FromParent);
      return answered.promise;
    },
    drain: async () => {
      await untilUp();
      const limitMs = drainTimeoutMs + DRAIN_MARGIN_MS;
      const late = () => new PinflowError('timeout', `\`${command}\` has not ended ${limitMs} ms after SIGTERM`);
      const code = await withDeadline(end('SIGTERM'), limitMs, late);
      if (code !== 0) throw new PinflowError('internal', `\`${command}\` ended with ${code} after SIGTERM, not 0`);
    },
    failed: failure.promise,
  };
};
