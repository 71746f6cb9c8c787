import { PinflowError } from '../../src/errors.ts';
import type { Random } from './random.ts';
import type { Fault, Point, Scenario } from './scenario.ts';
import type { Process, World } from './virtual-time.ts';

export const PORTS = ['log', 'blob', 'pin store', 'postgres'] as const;
export type Port = (typeof PORTS)[number];

/** What happened, for people and for the proof that a seed always gives the same history. */
export type Trace = {
  readonly fault: (text: string) => void;
  readonly event: (text: string) => void;
  readonly faults: () => readonly string[];
  /** Of all that was told, in its order. */
  readonly digest: () => string;
};

export const createTrace = (now: () => number, print: (line: string) => void): Trace => {
  const faults: string[] = [];
  const hash = new Bun.CryptoHasher('sha1');
  const event = (text: string) => {
    const line = `${now().toFixed(1).padStart(9)} ${text}`;
    hash.update(`${line}\n`);
    print(line);
    return line;
  };
  return {
    event,
    fault: (text) => void faults.push(event(`! ${text}`)),
    faults: () => faults,
    digest: () => hash.copy().digest('hex'),
  };
};

/** The way between processes and engines, where things go wrong. */
export type Network = {
  /**
   * Calls an engine for a process, with the faults of the seed. What a dead process asked is never answered.
   * @param isRemote it may be done although its sender has died since
   */
  readonly call: <T>(
    process: Process,
    port: Port,
    operation: string,
    isRemote: boolean,
    work: () => Promise<T>,
  ) => Promise<T>;
  /** Whether a fault that only one kind of call knows happens now. */
  readonly happens: (process: Process, fault: Fault, what: string) => boolean;
  /** To be handed to workers as `reached`; may end the process, by a throw. */
  readonly reached: (process: Process) => (point: Point) => void;
  /** An engine is away, or its disk full, from now on for so long. */
  readonly disturb: (port: Port, fault: 'outage' | 'disk full', ms: number) => void;
  readonly kill: (process: Process, why: string) => void;
  /** No further faults. */
  readonly heal: () => void;
  readonly isHealed: () => boolean;
  /** Appends under way that will still be done, whoever sent them and whether or not they live. */
  readonly appendsUnderWay: () => number;
  /** Points where a process has died. */
  readonly crashes: ReadonlySet<Point>;
};

const CODES = { log: 'log_unavailable', blob: 'blob_unavailable', 'pin store': 'pin_store_unavailable' } as const;

/** As the engine's adapter would say it; for Postgres, as its driver. */
const errorOf = (port: Port, why: string, isFull: boolean): Error => {
  if (port === 'postgres') return Object.assign(new Error(why), { code: isFull ? '53100' : 'ECONNRESET' });
  return new PinflowError(isFull ? 'disk_full' : CODES[port], why, { retryable: true });
};

/** Longest a slow call or answer takes, milliseconds: past the deadlines of edge and spool. */
const SLOW_MS = 4000;
const FAST_MS = 3;
/** Longest a process stops within a call, milliseconds: far longer than a session of its group. */
const LONG_PAUSE_MS = 6000;

type Deps = { readonly world: World; readonly random: Random; readonly scenario: Scenario; readonly trace: Trace };
type Plan = {
  readonly beforeMs: number;
  readonly afterMs: number;
  readonly refused: Error | null;
  readonly lost: Error | null;
  readonly twice: boolean;
  readonly crash: 'before' | 'after' | null;
  /** The sender stops before it is sent, for so long. */
  readonly pauseMs: number | null;
};

const createPlans = ({ world, random, scenario, trace }: Deps, isHealed: () => boolean) => {
  const { rates } = scenario;
  const disturbances = new Map<Port, { readonly until: number; readonly fault: 'outage' | 'disk full' }>();

  const happens: Network['happens'] = (process, fault, what) => {
    if (isHealed() || process === world.host || !random.chance(rates[fault])) return false;
    trace.fault(`${process.name}: ${fault}: ${what}`);
    return true;
  };

  const refusal = (process: Process, port: Port, operation: string): Error | null => {
    const disturbance = disturbances.get(port);
    if (!isHealed() && disturbance !== undefined && world.now() < disturbance.until && process !== world.host) {
      const isFull = disturbance.fault === 'disk full';
      const isWrite = /append|put|upsert|commit|begin|query/.test(operation);
      if (!isFull || isWrite) return errorOf(port, `${disturbance.fault} of ${port}`, isFull);
    }
    return happens(process, 'refuse', `${port} ${operation}`) ? errorOf(port, 'refused', false) : null;
  };

  const delay = (process: Process, what: string) =>
    happens(process, 'slow', what) ? random.int(100, SLOW_MS) : random.unit() * FAST_MS;

  const plan = (process: Process, port: Port, operation: string): Plan => {
    const what = `${port} ${operation}`;
    const refused = refusal(process, port, operation);
    const isLost = refused === null && happens(process, 'lose', what);
    const twice = refused === null && operation !== 'commit' && happens(process, 'twice', what);
    const dies = happens(process, 'crash in call', what);
    return {
      beforeMs: delay(process, `request of ${what}`),
      afterMs: delay(process, `answer of ${what}`),
      refused,
      lost: isLost ? errorOf(port, 'the answer was lost', false) : null,
      twice,
      crash: dies ? random.pick(['before', 'after']) : null,
      pauseMs: happens(process, 'pause in call', what) ? random.int(1, LONG_PAUSE_MS) : null,
    };
  };
  return {
    plan,
    happens,
    disturb: (port: Port, fault: 'outage' | 'disk full', until: number) => disturbances.set(port, { fault, until }),
  };
};

export const createNetwork = (deps: Deps): Network => {
  const { world, random, scenario, trace } = deps;
  const crashes = new Set<Point>();
  let healed = false;
  /** The senders of appends that are not done yet; what a dead one still had in its hands never will be. */
  const appending = new Set<{ readonly sender: Process }>();
  const { plan, happens, disturb } = createPlans(deps, () => healed);

  const kill = (process: Process, why: string) => {
    trace.fault(`${process.name}: dies ${why}`);
    world.kill(process);
  };

  /** Without conditional puts a write that lands after its writer's death is what the store cannot bear: see `drawScenario`. */
  const landsAnyway = (isRemote: boolean, port: Port) =>
    isRemote && (port !== 'blob' || scenario.conditionalPut) && random.chance(0.5);

  const perform = async <T>(process: Process, what: string, { refused, lost, twice }: Plan, work: () => Promise<T>) => {
    try {
      if (refused !== null) throw refused;
      const value = await work();
      const second = twice ? await work() : value;
      if (lost !== null) throw lost;
      trace.event(`${process.name} ${what}`);
      return { value: second };
    } catch (error) {
      trace.event(`${process.name} ${what} failed`);
      return { error };
    }
  };

  return {
    appendsUnderWay: () => [...appending].filter(({ sender }) => sender.state !== 'dead').length,
    crashes,
    happens,
    kill,
    disturb: (port, fault, ms) => {
      trace.fault(`${fault} of ${port} for ${ms} ms`);
      disturb(port, fault, world.now() + ms);
    },
    heal: () => {
      healed = true;
      trace.event('healed');
    },
    isHealed: () => healed,
    reached: (process) => (point) => {
      trace.event(`${process.name} reached ${point}`);
      if (process.state !== 'running') return;
      const isAim = point === scenario.aim && !crashes.has(point) && !healed;
      if (!isAim && !happens(process, 'crash at point', point)) return;
      crashes.add(point);
      kill(process, point);
      throw new Error(`killed ${point}`);
    },
    call: (process, port, operation, isRemote, work) =>
      new Promise((resolve, reject) => {
        if (process.state === 'dead') return;
        const planned = plan(process, port, operation);
        const what = `${port} ${operation}`;
        const { pauseMs } = planned;
        if (pauseMs !== null) {
          world.pause(process);
          world.after(pauseMs, world.host, () => world.resume(process));
        }
        const sender = isRemote && pauseMs === null ? world.host : process;
        const append = { sender };
        if (operation === 'append') appending.add(append);
        const carryOut = async () => {
          if (process.state === 'dead' && !landsAnyway(isRemote, port)) return;
          if (planned.crash === 'before' && process.state !== 'dead') return kill(process, `before ${what}`);
          const outcome = await perform(process, what, planned, work);
          if (planned.crash === 'after' && process.state !== 'dead') return kill(process, `after ${what}`);
          world.after(planned.afterMs, process, () =>
            'error' in outcome ? reject(outcome.error) : resolve(outcome.value),
          );
        };
        world.after(planned.beforeMs, sender, () => void carryOut().finally(() => appending.delete(append)));
      }),
  };
};

/** A promise whose process may die: then it never settles. */
export const whileAlive = <T>(process: Process, promise: Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    promise.then(
      (value) => process.state !== 'dead' && resolve(value),
      (error) => process.state !== 'dead' && reject(error),
    );
  });
