import { join } from 'node:path';

/** Starts the real program as a user does, and what the e2e tests ask of it. */
export const CLI = join(import.meta.dir, '../../src/cli.ts');

/** Generous: the first start of the embedded Postgres takes some seconds on a busy machine. */
const START_MS = 60_000;

export type Running = {
  readonly url: string;
  readonly pid: number;
  /** What it printed so far. */
  readonly output: () => string;
  readonly exited: Promise<number>;
  readonly kill: (signal: NodeJS.Signals) => Promise<number>;
};

export type Env = Readonly<Record<string, string>>;

/** What a program under test sees of ours, and what it is given. */
export const environment = (env: Env): Record<string, string> => ({
  PATH: process.env.PATH ?? '',
  HOME: process.env.HOME ?? '',
  TMPDIR: process.env.TMPDIR ?? '/tmp',
  PORT: '0',
  LOG_LEVEL: 'warn',
  ...env,
});

/** `pinflow up` (or another command that runs on) on a free port; resolves when it says where the edge is. */
export const startProgram = async (
  env: Env,
  args: readonly string[] = ['up'],
  /** Finds its address in what it prints. */
  address = /^edge\s+(\S+)/m,
): Promise<Running> => {
  const child = Bun.spawn([process.execPath, CLI, ...args], { env: environment(env), stdout: 'pipe', stderr: 'pipe' });
  let printed = '';
  const found = Promise.withResolvers<string>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      printed += decoder.decode(chunk, { stream: true });
      const match = address.exec(printed);
      if (match?.[1] !== undefined) found.resolve(match[1]);
    }
  };
  void read(child.stdout);
  void read(child.stderr);
  void child.exited.then((code) => found.reject(new Error(`the program ended with ${code}:\n${printed}`)));
  const timer = setTimeout(() => found.reject(new Error(`no edge within ${START_MS} ms:\n${printed}`)), START_MS);
  const url = await found.promise.finally(() => clearTimeout(timer));
  return {
    url,
    pid: child.pid,
    output: () => printed,
    exited: child.exited,
    kill: (signal) => {
      child.kill(signal);
      return child.exited;
    },
  };
};

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs one command of the CLI to its end. */
export const runCommand = async (env: Env, args: readonly string[]): Promise<CommandResult> => {
  const child = Bun.spawn([process.execPath, CLI, ...args], { env: environment(env), stdout: 'pipe', stderr: 'pipe' });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
};

/** Waits until `condition` answers something other than null. @throws after `ms`, saying what did not come */
export const eventually = async <T>(what: string, ms: number, condition: () => Promise<T | null>): Promise<T> => {
  const deadline = Date.now() + ms;
  for (;;) {
    const answer = await condition();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`did not happen within ${ms} ms: ${what}`);
    await Bun.sleep(100);
  }
};

/** The workers alone, which say nothing of an edge. */
export const startWorkers = (env: Env): { readonly pid: number; readonly stop: () => Promise<number> } => {
  const child = Bun.spawn([process.execPath, CLI, 'work'], {
    env: environment(env),
    stdout: 'ignore',
    stderr: 'inherit',
  });
  return {
    pid: child.pid,
    stop: () => {
      child.kill('SIGTERM');
      return child.exited;
    },
  };
};
