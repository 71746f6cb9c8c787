import { AsyncLocalStorage } from 'node:async_hooks';

/**
 * Many simulated processes in one real one, on one simulated clock. What runs inside a process (an async context) sees
 * simulated timers, `Date.now`, `performance.now` and `Math.random`; what runs outside sees the real ones. Events run one at
 * a time, in the order of their times, each with all the promises it settles, so that one seed always gives one history.
 */
export type Process = {
  readonly name: string;
  /** A paused process is a zombie to be: it owns what it owned, and goes on later as if nothing had been. */
  state: 'running' | 'paused' | 'dead';
  readonly held: Event[];
};

type Event = {
  at: number;
  readonly order: number;
  readonly process: Process;
  readonly run: () => void;
  cancelled: boolean;
};

export type World = {
  /** For what belongs to no process: the network, the clients, the one who injects faults. It never dies. */
  readonly host: Process;
  /** Milliseconds since the world began; never goes back. */
  readonly now: () => number;
  /** What the wall clocks show, milliseconds since the Unix epoch. */
  readonly wallClock: () => number;
  /** The wall clocks jump by this much, milliseconds, forth or back. */
  readonly jump: (ms: number) => void;
  readonly spawn: (name: string) => Process;
  /** As `kill -9`: nothing of it runs again. */
  readonly kill: (process: Process) => void;
  readonly pause: (process: Process) => void;
  readonly resume: (process: Process) => void;
  readonly within: <T>(process: Process, work: () => T) => T;
  readonly after: (ms: number, process: Process, run: () => void) => void;
  readonly sleep: (ms: number) => Promise<void>;
  /** Runs real work, such as a statement of Postgres, for which the simulated time stands still. */
  readonly outside: <T>(work: () => Promise<T>) => Promise<T>;
  /** Runs `main` in the host, and all events, until it has settled. @throws also when nothing more can happen, or too much did */
  readonly run: <T>(main: () => Promise<T>) => Promise<T>;
};

export const EPOCH_MS = Date.parse('2026-11-23T12:00:00Z');
/** Many times what the longest seed takes: beyond it something spins. */
const MAX_EVENTS = 1_000_000;

type Context = { readonly world: Internals; readonly process: Process };
type Internals = World & {
  readonly random: () => number;
  readonly plan: (ms: number, run: () => void, process: Process) => Event;
};

const contexts = new AsyncLocalStorage<Context | undefined>();

const isBefore = (a: Event, b: Event) => a.at < b.at || (a.at === b.at && a.order < b.order);

/** A binary heap: the earliest event first, of equals the one planned first. */
const createQueue = () => {
  const heap: Event[] = [];
  const swap = (i: number, j: number) => {
    const held = heap[i] as Event;
    heap[i] = heap[j] as Event;
    heap[j] = held;
  };
  const earlier = (i: number, j: number) => j < heap.length && isBefore(heap[j] as Event, heap[i] as Event);
  return {
    push: (event: Event) => {
      let i = heap.push(event) - 1;
      for (let up = (i - 1) >> 1; i > 0 && earlier(up, i); up = (i - 1) >> 1) {
        swap(up, i);
        i = up;
      }
    },
    pop: (): Event | undefined => {
      const first = heap[0];
      const last = heap.pop();
      if (first === undefined || last === undefined || heap.length === 0) return first;
      heap[0] = last;
      for (let i = 0; ; ) {
        let least = i;
        for (const down of [2 * i + 1, 2 * i + 2]) if (earlier(least, down)) least = down;
        if (least === i) return first;
        swap(i, least);
        i = least;
      }
    },
  };
};

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  dateNow: Date.now,
  performanceNow: performance.now.bind(performance),
  random: Math.random,
};

type SimulatedTimer = { event: Event | null };
type Callback = (...values: unknown[]) => void;

const handleOf = (timer: SimulatedTimer) =>
  Object.assign(timer, { ref: () => timer, unref: () => timer, hasRef: () => true });

const startTimer = ({ world, process }: Context, run: Callback, ms: number, values: unknown[], repeat: boolean) => {
  const timer: SimulatedTimer = { event: null };
  const period = Number.isFinite(ms) ? Math.max(1, ms) : 1;
  const fire = () => {
    if (repeat) timer.event = world.plan(period, fire, process);
    run(...values);
  };
  timer.event = world.plan(period, fire, process);
  return handleOf(timer);
};

const stopTimer = (timer: unknown): boolean => {
  const isOurs = typeof timer === 'object' && timer !== null && 'event' in timer;
  if (isOurs && timer.event !== null) (timer.event as Event).cancelled = true;
  return isOurs;
};

/** Puts the simulated clock and timers before the real ones, for code that runs in a simulated process. Once a program. */
export const installVirtualTime = (): void => {
  const start =
    (repeat: boolean) =>
    (run: Callback, ms = 0, ...values: unknown[]) => {
      const context = contexts.getStore();
      if (context !== undefined) return startTimer(context, run, ms, values, repeat);
      return (repeat ? real.setInterval : real.setTimeout)(run, ms, ...values);
    };
  const stop = (fallback: (timer: never) => void) => (timer: unknown) => {
    if (!stopTimer(timer)) fallback(timer as never);
  };
  const immediate = (run: Callback, ...values: unknown[]) => {
    const context = contexts.getStore();
    if (context === undefined) return real.setImmediate(run, ...values);
    return handleOf({ event: context.world.plan(0, () => run(...values), context.process) });
  };
  Object.assign(globalThis, {
    setTimeout: start(false),
    setInterval: start(true),
    setImmediate: immediate,
    clearTimeout: stop(real.clearTimeout),
    clearInterval: stop(real.clearInterval),
    clearImmediate: stop(real.clearImmediate),
  });
  Date.now = () => contexts.getStore()?.world.wallClock() ?? real.dateNow();
  performance.now = () => contexts.getStore()?.world.now() ?? real.performanceNow();
  Math.random = () => (contexts.getStore()?.world.random ?? real.random)();
};

/** The changes of state of processes, with the queue they hold events back from. */
const createProcesses = (queue: ReturnType<typeof createQueue>) => ({
  kill: (process: Process) => {
    process.state = 'dead';
    process.held.length = 0;
  },
  pause: (process: Process) => {
    if (process.state === 'running') process.state = 'paused';
  },
  resume: (process: Process) => {
    if (process.state !== 'paused') return;
    process.state = 'running';
    for (const event of process.held.splice(0)) queue.push(event);
  },
});

type Shared = { readonly run: Callback; readonly ms: number };
const shared: Shared[] = [];

/**
 * Takes over the intervals that `work` starts: they belong to no process, and run in every world made after. For what the
 * modules of the program keep once for all who use them.
 */
export const shareIntervals = (work: () => void): void => {
  const { setInterval } = globalThis;
  globalThis.setInterval = ((run: Callback, ms: number) =>
    void shared.push({ run, ms })) as unknown as typeof setInterval;
  work();
  globalThis.setInterval = setInterval;
};

/** @param random numbers from 0 up to 1, which decide all that is left to chance */
export const createWorld = (random: () => number): World => {
  const queue = createQueue();
  const host: Process = { name: 'host', state: 'running', held: [] };
  let now = 0;
  let offset = 0;
  let order = 0;
  let working = 0;
  /** Real work is done one by one, as which of two ends first would not follow from the seed. */
  let inLine: Promise<void> = Promise.resolve();
  let events = 0;

  const plan = (ms: number, run: () => void, process: Process): Event => {
    const event: Event = { at: now + ms, order: order++, process, run, cancelled: false };
    if (process.state !== 'dead') queue.push(event);
    return event;
  };

  const step = () => {
    const event = queue.pop();
    if (event === undefined) throw new Error('nothing more can happen, and the run is not over: a promise hangs');
    if (++events > MAX_EVENTS) throw new Error(`${MAX_EVENTS} events and no end: something spins`);
    if (event.cancelled || event.process.state === 'dead') return;
    if (event.process.state === 'paused') return void event.process.held.push(event);
    now = Math.max(now, event.at);
    contexts.run({ world, process: event.process }, event.run);
  };

  /** Lets all promises that can settle do so. */
  const settle = () => new Promise<void>((resolve) => real.setImmediate(resolve));

  const world: Internals = {
    ...createProcesses(queue),
    host,
    random,
    plan,
    now: () => now,
    wallClock: () => EPOCH_MS + Math.floor(now) + offset,
    jump: (ms) => {
      offset += ms;
    },
    spawn: (name) => ({ name, state: 'running', held: [] }),
    within: (process, work) => contexts.run({ world, process }, work),
    after: (ms, process, run) => void plan(ms, run, process),
    sleep: (ms) => new Promise((resolve) => void plan(ms, resolve, host)),
    outside: async (work) => {
      working++;
      const mine = inLine.then(() => contexts.run(undefined, work));
      inLine = mine.then(
        () => {},
        () => {},
      );
      try {
        return await mine;
      } finally {
        working--;
      }
    },
    run: async (main) => {
      let isOver = false;
      const running = contexts.run({ world, process: host }, main).finally(() => {
        isOver = true;
      });
      running.catch(() => {});
      await settle();
      while (!isOver) {
        if (working === 0) step();
        await settle();
      }
      return running;
    },
  };
  for (const { run, ms } of shared) world.within(host, () => setInterval(run, ms));
  return world;
};
