import type { Config } from '../config.ts';

/** What the supervisor and a worker thread say to each other. Plain objects, so structured clone is cheap. */
export const WORKER_ROLES = ['postgres', 'archive', 'clean', 'stream'] as const;
export type WorkerRole = (typeof WORKER_ROLES)[number];

export type ToWorker =
  | { readonly type: 'start'; readonly role: WorkerRole; readonly name: string; readonly config: Config }
  /** Finish what is under way, commit, close, answer `drained`. */
  | { readonly type: 'drain' };

export type FromWorker =
  /** The thread runs; it may still be connecting. */
  | { readonly type: 'hello'; readonly name: string }
  /** Its engines are reached and it works. `detail` says where (the embedded Postgres: its URL). */
  | { readonly type: 'ready'; readonly name: string; readonly detail?: string }
  /** It lives but cannot work now, and why; it goes on trying. */
  | { readonly type: 'waiting'; readonly name: string; readonly reason: string }
  | { readonly type: 'heartbeat'; readonly name: string; readonly at: number }
  /** prom-client's getMetricsAsJSON() of the thread's registry. */
  | { readonly type: 'metrics'; readonly name: string; readonly metrics: readonly unknown[] }
  | { readonly type: 'drained'; readonly name: string };

/** Milliseconds between heartbeats, which carry the metrics with them. */
export const HEARTBEAT_MS = 1000;

export type WorkerStatus = { readonly state: 'ready' } | { readonly state: 'waiting'; readonly reason: string };

/** What every worker is to its thread entry: a handler made from deps, without any knowledge of threads. */
export type Worker = {
  /** Works until `drain`; resolves then. Rejects when it cannot go on: the supervisor replaces it. */
  readonly run: () => Promise<void>;
  /** Finishes what is under way, commits, lets go. Resolves when `run` has. Idempotent. */
  readonly drain: () => Promise<void>;
};
