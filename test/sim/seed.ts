import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { PinStore } from '../../src/db/pin-store/pin-store.ts';
import { openSqlitePinStore } from '../../src/db/pin-store/sqlite.ts';
import { streamOffsets } from '../../src/db/postgres/speed-view.ts';
import { messageOf } from '../../src/errors.ts';
import { runClients, spooledRecords } from './clients.ts';
import { type Member, openSimLog, type Role, spoolFolder, startMember, TOPIC } from './fleet.ts';
import { archivedUpTo, checkAll, createCheckCommit } from './invariants.ts';
import type { Objects } from './memory-blob.ts';
import { createNetwork, createTrace, PORTS } from './network.ts';
import type { Sabotage } from './ports.ts';
import type { SimPostgres } from './postgres.ts';
import { createRandom } from './random.ts';
import { drawScenario, type Point } from './scenario.ts';
import { createSharedFiles } from './shared-files.ts';
import type { Sim } from './sim.ts';
import { createWorld, type World } from './virtual-time.ts';

/** Something is asked to go wrong this often, milliseconds of simulated time. */
const STIR_MS = 100;
/** Longest a process is paused, an engine away and a restart waited for, milliseconds of simulated time. */
const PAUSE_MS = 4000;
const OUTAGE_MS = 3000;
const RESTART_MS = 800;
const JUMP_MS = 3_600_000;
/** A healed pipeline that has not come to rest after this has lost its way, milliseconds of simulated time. */
const DRAIN_MS = 300_000;
const LOOK_MS = 200;

export type SeedOptions = {
  /** For files of the seed; best in memory. */
  readonly folder: string;
  /** Null: streamers and cleaners take no part. */
  readonly postgres: SimPostgres | null;
  readonly sabotage?: Sabotage | null;
  readonly print?: (line: string) => void;
};

export type SeedResult = {
  readonly seed: number;
  /** What did not hold; empty when all is well. */
  readonly problems: readonly string[];
  readonly faults: readonly string[];
  readonly digest: string;
  readonly crashes: ReadonlySet<Point>;
  readonly acks: number;
  readonly simulatedMs: number;
};

/** Looks at all that is waited for with one event, where a poll of each would be an event of each. */
const createWatch = (world: World) => {
  const waiting = new Map<() => boolean, () => void>();
  const run = async () => {
    for (;;) {
      await world.sleep(STIR_MS);
      for (const [isSo, resolve] of waiting) if (isSo() && waiting.delete(isSo)) resolve();
    }
  };
  return { run, until: (isSo: () => boolean) => new Promise<void>((resolve) => void waiting.set(isSo, resolve)) };
};

/** The processes of a seed, each replaced when it has died. */
const createCrew = (sim: Sim, roles: readonly (readonly [Role, number])[]) => {
  const { world, random, network, scenario } = sim;
  const checkCommit = createCheckCommit(sim.objects, sim.postgres, world.outside, sim.fail);
  const members: Member[] = [];
  const watch = createWatch(world);
  const start = async (role: Role, index: number) => {
    const member = await startMember(sim, role, index, checkCommit);
    members.push(member);
    return member;
  };

  /** One place in the crew. It is filled again when who has it dies, or is paused and it is no edge: an edge locks its folder. */
  const keep = async (role: Role, index: number) => {
    for (;;) {
      let member: Member;
      try {
        member = await start(role, index);
      } catch (error) {
        sim.trace.event(`${role} ${index} did not start: ${messageOf(error)}`);
        await world.sleep(random.int(1, RESTART_MS));
        continue;
      }
      const isGone = () => member.process.state === 'dead' || (role !== 'edge' && member.process.state === 'paused');
      await watch.until(isGone);
      await world.sleep(random.int(1, RESTART_MS));
    }
  };

  const stirMember = (member: Member) => {
    const { process } = member;
    if (network.happens(process, 'crash', 'now')) return network.kill(process, 'at any time');
    if (!network.happens(process, 'pause', 'now')) return;
    world.pause(process);
    world.after(random.int(1, PAUSE_MS), world.host, () => world.resume(process));
  };

  /** Asks for trouble, until the time is over. */
  const stir = async () => {
    while (world.now() < scenario.faultMs) {
      await world.sleep(STIR_MS);
      const alive = members.filter(({ process }) => process.state === 'running');
      const chosen = alive[random.int(0, Math.max(0, alive.length - 1))];
      if (chosen !== undefined) stirMember(chosen);
      for (const cause of ['outage', 'disk full'] as const) {
        if (random.chance(scenario.rates[cause])) network.disturb(random.pick(PORTS), cause, random.int(1, OUTAGE_MS));
      }
      if (random.chance(scenario.rates['clock jump'])) world.jump(random.int(-JUMP_MS, JUMP_MS));
      const cleaner = alive.find(({ role }) => role === 'clean');
      if (random.chance(0.1) && cleaner?.cleaner)
        void world.within(cleaner.process, () => cleaner.cleaner?.runNow('cron'));
    }
  };

  return {
    members,
    start: () => {
      void watch.run();
      for (const [role, index] of roles) void keep(role, index);
    },
    stir,
    alive: (role: Role) => members.filter((member) => member.role === role && member.process.state === 'running'),
  };
};

type Crew = ReturnType<typeof createCrew>;

/** What still has to happen before all is where it belongs, or null. */
const pendingWork = async (sim: Sim, crew: Crew): Promise<string | null> => {
  const edges = crew.alive('edge').flatMap(({ edge }) => edge ?? []);
  if (edges.length < sim.scenario.edges) return 'edges that are up';
  for (const edge of edges) if ((await spooledRecords(edge)) > 0) return 'an empty spool';
  if (sim.network.appendsUnderWay() > 0) return 'appends that are under way';
  const { postgres } = sim;
  const streamed = postgres && (await sim.world.outside(() => streamOffsets(postgres.database, TOPIC)));
  for (const { partition, end } of await sim.observer.partitions()) {
    const archived = archivedUpTo(sim.objects, partition);
    if (archived < end) return `partition ${partition} archived up to ${end}, it is at ${archived}`;
    const next = streamed?.get(partition) ?? 0;
    if (streamed && next < end) return `partition ${partition} streamed up to ${end}, it is at ${next}`;
  }
  return null;
};

const drain = async (sim: Sim, crew: Crew) => {
  const { world } = sim;
  const deadline = world.now() + DRAIN_MS;
  let pending: string | null = null;
  while (world.now() < deadline) {
    pending = await pendingWork(sim, crew);
    if (pending === null) {
      if (sim.postgres === null) return;
      const [member] = crew.alive('clean');
      const summary = await (member && world.within(member.process, async () => member.cleaner?.runNow('manual')));
      if (summary?.status === 'done') return;
      pending = `a batch run: ${summary?.status ?? 'no cleaner'} ${summary?.error ?? ''}`;
    }
    await world.sleep(LOOK_MS);
  }
  sim.fail(`after ${DRAIN_MS} ms without faults it still waits for ${pending}`);
};

const rolesOf = ({ scenario, postgres }: Sim): readonly (readonly [Role, number])[] => {
  const of = (role: Role, count: number) => Array.from({ length: count }, (_, index) => [role, index] as const);
  const workers: readonly Role[] = postgres === null ? ['archive'] : ['archive', 'stream', 'clean'];
  return [...of('edge', scenario.edges), ...workers.flatMap((role) => of(role, scenario.workers))];
};

const runSim = async (sim: Sim) => {
  const { world, network } = sim;
  const crew = createCrew(sim, rolesOf(sim));
  crew.start();
  await Promise.all([crew.stir(), runClients(sim, () => crew.alive('edge'))]);
  network.heal();
  for (const { process } of crew.members) world.resume(process);
  await drain(sim, crew);
  for (const { process } of crew.members) world.kill(process);
  await world.outside(() => checkAll(sim));
};

const openPinStores = (dir: string, count: number): readonly PinStore[] =>
  (['embedded', 'scylla'] as const).slice(0, count).map((name) => {
    const options = { dir: join(dir, name), keyspace: 'pinkeyspace', catalog: 'cassandra' };
    return { ...openSqlitePinStore(options), name };
  });

/** Runs one seed from its first request to the proof at its end. */
export const runSeed = async (
  seed: number,
  { folder, postgres, sabotage = null, print = () => {} }: SeedOptions,
): Promise<SeedResult> => {
  const random = createRandom(seed);
  const scenario = drawScenario(seed, random, postgres !== null);
  const world = createWorld(random.unit);
  const trace = createTrace(world.now, print);
  const network = createNetwork({ world, random, scenario, trace });
  const dir = mkdtempSync(join(folder, 'pinflow-sim-'));
  const spoolDir = (edge: number) => spoolFolder(dir, edge);
  for (let edge = 0; edge < scenario.edges; edge++) mkdirSync(spoolDir(edge));
  const problems: string[] = [];
  const objects: Objects = new Map();
  const files = createSharedFiles();
  let incarnations = 0;
  await postgres?.reset();
  const pinStores = postgres === null ? [] : openPinStores(dir, scenario.pinStores);
  const result = async (sim: Sim): Promise<SeedResult> => {
    await runSim(sim);
    return {
      seed,
      problems,
      faults: trace.faults(),
      digest: trace.digest(),
      crashes: network.crashes,
      acks: sim.acks.length,
      simulatedMs: world.now(),
    };
  };
  try {
    return await world.run(async () => {
      const observer = await openSimLog({ world, dir, scenario, files });
      const deadLetters = await openSimLog({ world, dir, scenario, files }, `${TOPIC}.dlq`);
      const sim: Sim = {
        scenario,
        world,
        random,
        network,
        trace,
        sabotage,
        dir,
        files,
        spoolDir,
        objects,
        pinStores,
        postgres,
        observer,
        deadLetters,
        acks: [],
        nextIncarnation: () => incarnations++,
        fail: (problem) => void problems.push(problem),
      };
      return result(sim);
    });
  } catch (error) {
    problems.push(`the run ended early: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    const faults = trace.faults();
    return {
      seed,
      problems,
      faults,
      digest: trace.digest(),
      crashes: network.crashes,
      acks: 0,
      simulatedMs: world.now(),
    };
  } finally {
    for (const store of pinStores) await store.close();
    files.close();
    rmSync(dir, { recursive: true, force: true });
  }
};
