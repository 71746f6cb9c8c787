import type { WorkerRole } from '../workers/protocol.ts';

/** What the program does for the process that started it, if that gave it a channel. */
export type FromParent = { readonly endWorker: WorkerRole };
/** That it hears now; how many threads it ended, none while they are down already. */
export type ToParent = { readonly started: true } | { readonly endedThreads: number };

const isFromParent = (message: unknown): message is FromParent =>
  typeof message === 'object' && message !== null && 'endWorker' in message;

/**
 * A thread cannot be killed from outside its process, so `chaos` asks for it over the channel it starts the program with. Nobody
 * else can: without such a parent there is no channel. A parent that is gone leaves no program behind: it drains.
 */
export const obeyParent = ({ endWorker }: { readonly endWorker: (role: WorkerRole) => number }): void => {
  if (process.send === undefined) return;
  process.on('message', (message) => {
    if (isFromParent(message)) process.send?.({ endedThreads: endWorker(message.endWorker) } satisfies ToParent);
  });
  process.send({ started: true } satisfies ToParent);
  process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
};
