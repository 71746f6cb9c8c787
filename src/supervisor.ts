import type { Config } from './config.ts';
import { messageOf } from './errors.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { type FromWorker, HEARTBEAT_MS, type ToWorker, type WorkerRole } from './workers/protocol.ts';

/** A worker thread without a heartbeat for this long hangs and is replaced. Above the 6 s a first Postgres start blocks its thread. */
const HANG_MS = 30 * HEARTBEAT_MS;
/** Wait before a worker is started again; doubles with each death in a row. */
const RESTART_BASE_MS = 100;
const RESTART_MAX_MS = 10_000;
/** A worker that lived this long starts anew at the shortest wait. */
const HEALTHY_MS = 30_000;
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
  readonly send: (role: WorkerRole, message: ToWorker) => void;
  /** Drains role by role in the order given; what is not drained within `timeoutMs` in all is ended. */
  readonly drain: (order: readonly WorkerRole[], timeoutMs: number) => Promise<void>;
};

type SupervisorDeps = {
  readonly config: Config;
  readonly workers: Readonly<Partial<Record<WorkerRole, number>>>;
  readonly logger: Logger;
  readonly metrics: Metrics;
};

type SlotDeps = Pick<SupervisorDeps, 'config' | 'logger' | 'metrics'>;

/** One worker's place: the thread in it may change. */
const createSlot = ({ config, logger, metrics }: SlotDeps, role: WorkerRole, name: string) => {
  let thread: Worker | null = null;
  let state: WorkerState['state'] = 'down';
  let detail: string | null = null;
  let restarts = 0;
  let deathsInARow = 0;
  let startedAt = 0;
  let lastSeen = 0;
  let posted: readonly unknown[] = [];
  let draining = false;
  let restartTimer: ReturnType<typeof setTimeout> | undefined;
  const drained = Promise.withResolvers<void>();

  const receive = (message: FromWorker) => {
    lastSeen = Date.now();
    if (message.type === 'ready') [state, detail] = ['ready', message.detail ?? null];
    if (message.type === 'waiting') {
      if (state !== 'waiting' || detail !== message.reason) logger.warn(`${name} waits: ${message.reason}`);
      [state, detail] = ['waiting', message.reason];
    }
    if (message.type === 'metrics') posted = message.metrics;
    if (message.type === 'drained') {
      state = 'drained';
      drained.resolve();
    }
  };

  const died = (from: Worker, reason: string) => {
    // `error` and `close` both come for one death, and a thread that was replaced may still speak.
    if (thread !== from) return;
    thread = null;
    if (draining) {
      state = 'drained';
      drained.resolve();
      return;
    }
    deathsInARow = Date.now() - startedAt > HEALTHY_MS ? 1 : deathsInARow + 1;
    restarts++;
    metrics.workerRestarts.inc({ role });
    const waitMs = Math.min(RESTART_MAX_MS, RESTART_BASE_MS * 2 ** (deathsInARow - 1));
    [state, detail] = ['down', reason];
    logger.error(`${name} ended (${reason}); it is started again in ${waitMs} ms`);
    restartTimer = setTimeout(spawn, waitMs);
  };

  const spawn = () => {
    const fresh = new Worker(new URL('./workers/thread.ts', import.meta.url).href, { name });
    thread = fresh;
    startedAt = lastSeen = Date.now();
    [state, detail] = ['starting', null];
    // A Worker that nobody listens to dies in silence: both events are needed, a native end fires only `close`.
    fresh.onmessage = (event: MessageEvent<FromWorker>) => receive(event.data);
    fresh.onerror = (event) => died(fresh, event.message);
    fresh.addEventListener('close', () => died(fresh, 'the thread closed'));
    fresh.postMessage({ type: 'start', role, name, config } satisfies ToWorker);
  };

  const watch = () => {
    if (thread === null || Date.now() - lastSeen <= HANG_MS) return;
    const hung = thread;
    died(hung, `no heartbeat for ${HANG_MS / 1000} s`);
    hung.terminate();
  };

  return {
    role,
    spawn,
    watch,
    send: (message: ToWorker) => thread?.postMessage(message),
    metrics: () => posted,
    state: (): WorkerState => ({ name, role, state, detail, restarts }),
    drain: async (timeoutMs: number) => {
      draining = true;
      clearTimeout(restartTimer);
      if (thread === null) return;
      const running = thread;
      running.postMessage({ type: 'drain' } satisfies ToWorker);
      const timer = setTimeout(() => drained.reject(new Error(`did not drain within ${timeoutMs} ms`)), timeoutMs);
      await drained.promise
        .catch((error) => logger.warn(`${name} is ended: ${messageOf(error)}; what it had not committed is read again`))
        .finally(() => clearTimeout(timer));
      running.terminate();
    },
  };
};

/** Keeps the worker threads of this process alive: starts them, replaces those that die or hang, drains them at the end. */
export const createSupervisor = (deps: SupervisorDeps): Supervisor => {
  const slots = (Object.entries(deps.workers) as [WorkerRole, number][]).flatMap(([role, count]) =>
    Array.from({ length: count }, (_, i) => createSlot(deps, role, count === 1 ? role : `${role}-${i + 1}`)),
  );
  let watcher: ReturnType<typeof setInterval> | undefined;
  const of = (role: WorkerRole) => slots.filter((slot) => slot.role === role);

  return {
    start: () => {
      for (const slot of slots) slot.spawn();
      watcher = setInterval(() => {
        for (const slot of slots) slot.watch();
      }, WATCH_MS);
    },
    states: () => slots.map((slot) => slot.state()),
    metrics: () => slots.map((slot) => slot.metrics()),
    send: (role, message) => {
      for (const slot of of(role)) slot.send(message);
    },
    drain: async (order, timeoutMs) => {
      clearInterval(watcher);
      const deadline = Date.now() + timeoutMs;
      for (const role of order) {
        await Promise.all(of(role).map((slot) => slot.drain(Math.max(0, deadline - Date.now()))));
      }
    },
  };
};
