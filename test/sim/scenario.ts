import type { ArchivePoint } from '../../src/workers/archive-chain.ts';
import type { CleanPoint } from '../../src/workers/clean-run.ts';
import type { StreamPoint } from '../../src/workers/streamer.ts';
import type { Random } from './random.ts';

/** What a seed sets up and how it goes wrong. */
export type Scenario = {
  readonly seed: number;
  /** Streamers and cleaners take part, over a real Postgres. */
  readonly postgres: boolean;
  /** The log is a broker: reached over the network, with a spool beside the edge. Else it is the edge's own file. */
  readonly broker: boolean;
  readonly conditionalPut: boolean;
  readonly partitions: number;
  readonly edges: number;
  /** Of each kind of worker. */
  readonly workers: number;
  readonly pinStores: number;
  readonly requests: number;
  /** Distinct pins: far fewer than requests, so that there are updates. */
  readonly ids: number;
  /** How long faults go on, milliseconds. */
  readonly faultMs: number;
  readonly archive: { readonly maxBytes: number; readonly maxPins: number; readonly maxSeconds: number };
  readonly maxBatchPins: number;
  readonly spoolBytes: number;
  readonly pendingBytes: number;
  readonly rates: Rates;
  /** The first process that reaches this dies there; null: none has to. Each seed has the next, so that no point is left out. */
  readonly aim: Point | null;
};

export const FAULTS = [
  /** A call is refused, and nothing of it done. */
  'refuse',
  /** A call is done, and its answer lost. */
  'lose',
  /** A call is done twice, as by a client that sends it again. */
  'twice',
  /** A broker takes some of the records of a call and then fails. */
  'half',
  /** A call, or its answer, takes seconds. */
  'slow',
  /** A process dies within a call, before it is sent or when it is done. */
  'crash in call',
  /** A process dies at a named point. */
  'crash at point',
  /** A process dies at any time. */
  'crash',
  /** A process stops for a while and goes on later, when another has its work. */
  'pause',
  /** The same with a call on its lips: it is made when the process wakes. */
  'pause in call',
  /** An engine is away for a while. */
  'outage',
  /** A disk is full for a while. */
  'disk full',
  /** The wall clocks jump. */
  'clock jump',
] as const;
export type Fault = (typeof FAULTS)[number];
/** Probability of a fault where one can be. */
export type Rates = Readonly<Record<Fault, number>>;

const STRONGEST: Rates = {
  refuse: 0.15,
  lose: 0.1,
  twice: 0.1,
  half: 0.1,
  slow: 0.1,
  'crash in call': 0.02,
  'pause in call': 0.02,
  'crash at point': 0.15,
  // These are asked once every STIR_MS.
  crash: 0.1,
  pause: 0.12,
  outage: 0.08,
  'disk full': 0.05,
  'clock jump': 0.1,
};

/** Every point where a worker says `reached`: a new one that is not named here does not compile. */
const POINTS: Readonly<Record<ArchivePoint | CleanPoint | StreamPoint, 'archive' | 'batch and speed layer'>> = {
  'after archive put, before manifest': 'archive',
  'after manifest, before commit': 'archive',
  'before stream commit': 'batch and speed layer',
  'after stream commit, before group commit': 'batch and speed layer',
  'after group commit': 'batch and speed layer',
  'run started': 'batch and speed layer',
  'objects discovered': 'batch and speed layer',
  'chunk upserted': 'batch and speed layer',
  'object upserted': 'batch and speed layer',
  'object marked': 'batch and speed layer',
};
export type Point = keyof typeof POINTS;

/** The points where a run of seeds must have seen a crash. */
export const pointsOf = (postgres: boolean): readonly Point[] =>
  (Object.keys(POINTS) as Point[]).filter((point) => postgres || POINTS[point] === 'archive');

/** Swarm testing: about half of the faults take no part in a seed, so that the others reach further. */
const drawRates = (random: Random): Rates =>
  Object.fromEntries(
    FAULTS.map((fault) => [fault, random.chance(0.5) ? 0 : STRONGEST[fault] * (0.2 + 0.8 * random.unit())]),
  ) as Rates;

export const drawScenario = (seed: number, random: Random, postgres: boolean): Scenario => {
  const broker = random.chance(0.5);
  const conditionalPut = random.chance(0.85);
  const rates = drawRates(random);
  const points = pointsOf(postgres);
  return {
    seed,
    postgres,
    broker,
    conditionalPut,
    partitions: random.int(1, 3),
    edges: broker ? random.int(1, 2) : 1,
    // Without conditional puts one writer at a time is the condition, see README.md.
    workers: conditionalPut ? random.int(1, 2) : 1,
    pinStores: random.int(1, 2),
    requests: random.int(10, postgres ? 30 : 60),
    ids: random.int(3, 40),
    faultMs: random.int(1500, 6000),
    archive: {
      maxBytes: random.pick([2000, 20_000, 1_000_000]),
      maxPins: random.pick([1, 3, 10, 50]),
      maxSeconds: random.pick([0.2, 0.5, 2]),
    },
    maxBatchPins: random.pick([1, 5, 50]),
    spoolBytes: random.pick([4000, 40_000, 1_000_000]),
    pendingBytes: random.pick([6000, 1_000_000]),
    aim: points[seed % (points.length + 1)] ?? null,
    // A writer that goes on after another has begun is what such a store cannot bear.
    rates: conditionalPut ? rates : { ...rates, pause: 0, 'pause in call': 0 },
  };
};
