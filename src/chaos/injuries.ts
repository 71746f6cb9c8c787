import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { mersenne } from 'pure-rand/generator/mersenne';
import { PinflowError } from '../errors.ts';
import { sleep } from '../retry.ts';
import type { WorkerRole } from '../workers/protocol.ts';
import type { Subject } from './subject.ts';

/** One way to hurt a running program. Resolves when it is as whole again as it gets from outside. */
export type Injury = { readonly name: string; readonly inflict: () => Promise<void> };

/** How long a process stands still, milliseconds: past what the brokers' and the ledger's clocks forgive at once, short of a session. */
const PAUSE_MS = 3000;
/** How long a killed process stays dead, milliseconds: the other one should notice. */
const DEAD_MS = 500;
/** Between two injuries, milliseconds. */
const GAP_MIN_MS = 300;
const GAP_MAX_MS = 2500;

/** Longest until a thread that is being replaced is there to be ended, and between two questions, milliseconds. */
const THREADS_TIMEOUT_MS = 60_000;
const ASK_AGAIN_MS = 100;

const killed = async (subject: Subject): Promise<void> => {
  await subject.kill();
  await sleep(DEAD_MS);
  subject.start();
};

/** Of the one of `subjects` that has such threads; it may have to be waited for. */
const threadEnded = async (subjects: readonly Subject[], role: WorkerRole): Promise<void> => {
  for (const deadline = Date.now() + THREADS_TIMEOUT_MS; Date.now() < deadline; await sleep(ASK_AGAIN_MS)) {
    for (const subject of subjects) if ((await subject.endWorker(role)) > 0) return;
  }
  throw new PinflowError('timeout', `there was no ${role} thread to end within ${THREADS_TIMEOUT_MS / 1000} s`);
};

const paused = async (subject: Subject): Promise<void> => {
  subject.pause();
  await sleep(PAUSE_MS);
  subject.goOn();
};

/**
 * What can be done to two processes that share the consumer groups.
 * @param program has the edge and workers. @param second has workers only. @param roles threads of `program`
 */
export const injuriesOf = (program: Subject, second: Subject, roles: readonly WorkerRole[]): readonly Injury[] => [
  { name: 'kill -9 of the program', inflict: () => killed(program) },
  { name: 'kill -9 of the second process', inflict: () => killed(second) },
  {
    name: 'kill -9 of both at once',
    inflict: async () => void (await Promise.all([killed(program), killed(second)])),
  },
  { name: 'SIGSTOP, then SIGCONT of the program', inflict: () => paused(program) },
  { name: 'SIGSTOP, then SIGCONT of the second process', inflict: () => paused(second) },
  {
    name: 'SIGTERM and start of the program',
    inflict: async () => {
      await program.drain();
      program.start();
    },
  },
  ...roles.map((role) => ({
    name: `end of the ${role} thread`,
    // The embedded Postgres is with whichever of the two was first.
    inflict: () => threadEnded(role === 'postgres' ? [program, second] : [program], role),
  })),
];

/**
 * Inflicts all of them in a random order, and again in another, until `signal` aborts; each at least once in any case.
 * @returns how often each was, by name
 */
export const inflictAll = async (
  injuries: readonly Injury[],
  options: { readonly seed: number; readonly signal: AbortSignal; readonly onInjury: (name: string) => void },
): Promise<Readonly<Record<string, number>>> => {
  const { seed, signal, onInjury } = options;
  const rng = mersenne(seed);
  const counts: Record<string, number> = Object.fromEntries(injuries.map(({ name }) => [name, 0]));
  for (let round = 0; ; round++) {
    const left = [...injuries];
    while (left.length > 0) {
      await sleep(uniformInt(rng, GAP_MIN_MS, GAP_MAX_MS));
      if (signal.aborted && round > 0) return counts;
      const [injury] = left.splice(uniformInt(rng, 0, left.length - 1), 1);
      if (injury === undefined) continue;
      onInjury(injury.name);
      await injury.inflict();
      counts[injury.name] = (counts[injury.name] ?? 0) + 1;
    }
  }
};
