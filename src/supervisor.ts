import type { Config } from './config.ts';
import { messageOf } from './errors.ts';
import type { Logger } from './logger.ts';
import { type Metrics, retireMetrics } from './metrics.ts';
import { type FromWorker, HEARTBEAT_MS, type ToWorker, type WorkerRole } from './workers/protocol.ts';

/** A worker thread without a heartbeat for this long hangs and is replaced. Above the 6 s a first Postgres start blocks its thread. */
const HANG_MS = 30 * HEARTBEAT_MS;
/** Wait before a worker is started again; doubles with each death in a row. */
const RESTART_BASE_MS = 100;
const RESTART_MAX_MS = 10_000;
/** A worker that lived this long starts anew at the shortest wait. */
const HEALTHY_MS = 30_000;
/** A wait shorter than this is not worth a line in the log: the embedded Postgres takes as long at its first start. */
const WAIT_LOG_MS = 20_000;
/** How often the supervisor looks for hung workers. */
const WATCH_MS = 1000;

export type WorkerState = {
  readonly name: string;
  readonly role: WorkerRole;
  readonly state: 'starting' | 'ready' | 'waiting' | 'down' | 'drained';
  /** Why it is not ready, or where it is. */
  readonly detail: string | null;
  readonly restarts: number;
};

export type Supervisor = {
  readonly start: () => void;
  readonly states: () => readonly WorkerState[];
  /** What the threads last posted, for `mergeMetrics`. */
  readonly metrics: () => readonly (readonly unknown[])[];
  /** Ends a role's threads where they stand, as a native crash would; they are replaced. For `chaos`. @returns how many */
  readonly end: (role: WorkerRole) => number;
  /** Drains in the order given, the roles of one group at once; what is not drained within `timeoutMs` in all is ended. */
  readonly drain: (order: readonly (readonly WorkerRole[])[], timeoutMs: number) => Promise<void>;
};

type SupervisorDeps = {
  readonly config: Config;
  readonly workers: Readonly<Partial<Record<WorkerRole, number>>>;
  readonly logger: Logger;
  readonly metrics: Metrics;
};

type SlotDeps = Pick<SupervisorDeps, 'config' | 'logger' | 'metrics'> & {
  readonly role: WorkerRole;
  readonly name: string;
};

/** One worker's place: the thread in it may change. */
type Slot = SlotDeps & {
  thread: Worker | null;
  state: WorkerState['state'];
  detail: string | null;
  /** When it began to wait, milliseconds; null when it does not, or when that was logged. */
  waitsSince: number | null;
  restarts: number;
  deathsInARow: number;
  startedAt: number;
  lastSeen: number;
  /** Last metrics of the thread, and the counters of the threads before it. */
  posted: readonly unknown[];
  retired: readonly unknown[];
  draining: boolean;
  restartTimer: ReturnType<typeof setTimeout> | undefined;
  readonly drained: PromiseWithResolvers<void>;
};

const createSlot = (deps: SlotDeps): Slot => ({
  ...deps,
  thread: null,
  state: 'down',
  detail: null,
  waitsSince: null,
  restarts: 0,
  deathsInARow: 0,
  startedAt: 0,
  lastSeen: 0,
  posted: [],
  retired: [],
  draining: false,
  restartTimer: undefined,
  drained: Promise.withResolvers<void>(),
});

const receive = (slot: Slot, message: FromWorker) => {
  slot.lastSeen = Date.now();
  if (message.type === 'metrics') slot.posted = message.metrics;
  if (message.type === 'ready') {
    Object.assign(slot, { state: 'ready', detail: message.detail ?? null, waitsSince: null });
  }
  if (message.type === 'waiting') {
    if (slot.state !== 'waiting') slot.waitsSince = Date.now();
    Object.assign(slot, { state: 'waiting', detail: message.reason });
  }
  if (message.type === 'drained') {
    slot.state = 'drained';
    slot.drained.resolve();
  }
};

const died = (slot: Slot, from: Worker, reason: string) => {
  // `error` and `close` both come for one death, and a thread that was replaced may still speak.
  if (slot.thread !== from) return;
  slot.thread = null;
  if (slot.draining) {
    slot.state = 'drained';
    slot.drained.resolve();
    return;
  }
  slot.retired = retireMetrics(slot.retired, slot.posted);
  slot.posted = [];
  slot.deathsInARow = Date.now() - slot.startedAt > HEALTHY_MS ? 1 : slot.deathsInARow + 1;
  slot.restarts++;
  slot.metrics.workerRestarts.inc({ role: slot.role });
  const waitMs = Math.min(RESTART_MAX_MS, RESTART_BASE_MS * 2 ** (slot.deathsInARow - 1));
  Object.assign(slot, { state: 'down', detail: reason, waitsSince: null });
  slot.logger.error(`${slot.name} ended (${reason}); it is started again in ${waitMs} ms`);
  slot.restartTimer = setTimeout(() => spawn(slot), waitMs);
};

const spawn = (slot: Slot) => {
  const { role, name, config } = slot;
  const thread = new Worker(new URL('./workers/thread.ts', import.meta.url).href, { name });
  slot.startedAt = slot.lastSeen = Date.now();
  Object.assign(slot, { thread, state: 'starting', detail: null });
  // A Worker that nobody listens to dies in silence: both events are needed, a native end fires only `close`.
  thread.onmessage = (event: MessageEvent<FromWorker>) => {
    if (slot.thread === thread) receive(slot, event.data);
  };
  thread.onerror = (event) => died(slot, thread, event.message);
  thread.addEventListener('close', () => died(slot, thread, 'the thread closed'));
  thread.postMessage({ type: 'start', role, name, config } satisfies ToWorker);
};

const watch = (slot: Slot) => {
  const now = Date.now();
  if (slot.waitsSince !== null && now - slot.waitsSince > WAIT_LOG_MS) {
    slot.logger.warn(`${slot.name} waits: ${slot.detail}`);
    slot.waitsSince = null;
  }
  if (slot.thread === null || now - slot.lastSeen <= HANG_MS) return;
  const hung = slot.thread;
  died(slot, hung, `no heartbeat for ${HANG_MS / 1000} s`);
  hung.terminate();
};

const drainSlot = async (slot: Slot, timeoutMs: number) => {
  slot.draining = true;
  clearTimeout(slot.restartTimer);
  const { thread, drained, name, logger } = slot;
  if (thread === null) return;
  thread.postMessage({ type: 'drain' } satisfies ToWorker);
  const timer = setTimeout(() => drained.reject(new Error(`did not drain within ${timeoutMs} ms`)), timeoutMs);
  await drained.promise
    .catch((error) => logger.warn(`${name} is ended: ${messageOf(error)}; what it had not committed is read again`))
    .finally(() => clearTimeout(timer));
  thread.terminate();
};

/** Keeps the worker threads of this process alive: starts them, replaces those that die or hang, drains them at the end. */
export const createSupervisor = (deps: SupervisorDeps): Supervisor => {
  const slots = (Object.entries(deps.workers) as [WorkerRole, number][]).flatMap(([role, count]) =>
    Array.from({ length: count }, (_, i) =>
      createSlot({ ...deps, role, name: count === 1 ? role : `${role}-${i + 1}` }),
    ),
  );
  let watcher: ReturnType<typeof setInterval> | undefined;
  const of = (role: WorkerRole) => slots.filter((slot) => slot.role === role);

  return {
    start: () => {
      for (const slot of slots) spawn(slot);
      watcher = setInterval(() => {
        for (const slot of slots) watch(slot);
      }, WATCH_MS);
    },
    states: () => slots.map(({ name, role, state, detail, restarts }) => ({ name, role, state, detail, restarts })),
    metrics: () => slots.flatMap((slot) => [slot.posted, slot.retired]),
    end: (role) => {
      const threads = of(role).flatMap(({ thread }) => thread ?? []);
      for (const thread of threads) thread.terminate();
      return threads.length;
    },
    drain: async (order, timeoutMs) => {
      clearInterval(watcher);
      const deadline = Date.now() + timeoutMs;
      for (const roles of order) {
        const leftMs = Math.max(0, deadline - Date.now());
        await Promise.all(roles.flatMap(of).map((slot) => drainSlot(slot, leftMs)));
      }
    },
  };
};
