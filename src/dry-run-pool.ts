import { availableParallelism } from 'node:os';
import { environmentWith } from './config.ts';
import * as childFile from './dry-run-child.ts' with { type: 'file' };
import type { FromCounter, ToCounter } from './dry-run-child.ts';
import { type ErrorCode, PinflowError } from './errors.ts';
import type { CountObject, ObjectCount } from './workers/clean-count.ts';

/** Each holds an object uncompressed: up to 250 MiB. */
const MAX_PROCESSES = 8;

const CHILD = (childFile as unknown as { readonly default: string }).default;

export type CountingPool = { readonly counters: readonly CountObject[]; readonly close: () => Promise<void> };

type Counter = { readonly count: CountObject; readonly close: () => Promise<void> };

const startCounter = (settings: Readonly<Record<string, string>>): Counter => {
  let waiting = Promise.withResolvers<ObjectCount>();
  const child = Bun.spawn([process.execPath, CHILD], {
    env: environmentWith(settings),
    stdio: ['ignore', 'ignore', 'inherit'],
    serialization: 'advanced',
    ipc: (message: FromCounter) => {
      if ('counted' in message) waiting.resolve(message.counted);
      else waiting.reject(new PinflowError(message.error.code as ErrorCode, message.error.message));
    },
  });
  const ended = child.exited.then((code): never => {
    const how = child.signalCode ?? code;
    throw new PinflowError('internal', `a process of the dry run ended with ${how}; run it again.`);
  });
  // Nobody may be waiting for it.
  ended.catch(() => {});
  return {
    count: async ({ partition, firstOffset }) => {
      waiting = Promise.withResolvers();
      if (child.exitCode === null && child.signalCode === null) {
        child.send({ partition, firstOffset } satisfies ToCounter);
      }
      return Promise.race([waiting.promise, ended]);
    },
    close: async () => {
      child.kill();
      await child.exited;
    },
  };
};

/**
 * Processes that clean side by side, as many as there are cores and no more than objects: an object keeps a core busy.
 * @param settings of the processes beside this one's: they say where the archive is. (Default: none)
 */
export const openCountingPool = (objects: number, settings: Readonly<Record<string, string>> = {}): CountingPool => {
  const size = Math.max(1, Math.min(availableParallelism(), MAX_PROCESSES, objects));
  const counters = Array.from({ length: size }, () => startCounter(settings));
  return {
    counters: counters.map(({ count }) => count),
    close: async () => void (await Promise.all(counters.map(({ close }) => close()))),
  };
};
