import { SABOTAGES } from './ports.ts';
import { startSimPostgres } from './postgres.ts';
import { type Point, pointsOf } from './scenario.ts';
import { runSeed, type SeedOptions } from './seed.ts';

type Options = {
  readonly folder: string;
  readonly withPostgres: boolean;
  /** Of an empty database; null starts the embedded Postgres. */
  readonly postgresUrl: string | null;
  readonly sabotage: string | null;
  /** Print the outcome only. */
  readonly isQuiet: boolean;
};

type Range = {
  readonly from: number;
  readonly seeds: number;
  /** Begins no further seed after this, once `atLeast` are done. */
  readonly seconds: number;
  readonly atLeast: number;
};

/** Killed processes never close their files: collecting garbage does. */
const COLLECT_EVERY_SEEDS = 100;
const SHOWN_PROBLEMS = 10;
const SHOWN_FAULTS = 60;
/** Seeds without which a run cannot be expected to have hit every point: each aims at one of ten, and may end before it gets there. */
const ENOUGH_SEEDS = 110;

const say = (line: string) => process.stdout.write(`${line}\n`);

const open = async ({ folder, withPostgres, postgresUrl, sabotage: name }: Options) => {
  const sabotage = SABOTAGES.find((known) => known === name) ?? null;
  if (name !== null && sabotage === null) throw new Error(`--sabotage should be one of: ${SABOTAGES.join(', ')}`);
  const postgres = withPostgres ? await startSimPostgres(postgresUrl, folder) : null;
  const options: SeedOptions = { folder, postgres, sabotage };
  const replay = (seed: number) =>
    `bun test/sim/main.ts --seed ${seed}${withPostgres ? ' --postgres' : ''}${sabotage ? ` --sabotage '${sabotage}'` : ''}`;
  return { options, replay, close: async () => postgres?.close() };
};

/** One seed with its whole history. @returns whether all held */
export const runOne = async (seed: number, given: Options): Promise<boolean> => {
  const { options, close } = await open(given);
  const result = await runSeed(seed, { ...options, print: given.isQuiet ? undefined : say });
  for (const problem of result.problems) say(`FAIL ${problem}`);
  say(`seed ${seed}: ${result.problems.length} problems, ${result.acks} acks, trace ${result.digest}`);
  await close();
  return result.problems.length === 0;
};

/** Seeds one after the other; stops at the first that fails. @returns whether all held, and every crash point was hit */
export const runMany = async ({ from, seeds, seconds, atLeast }: Range, given: Options): Promise<boolean> => {
  const { options, replay, close } = await open(given);
  const crashes = new Set<Point>();
  const beganAt = performance.now();
  let [done, acks, faults, simulatedMs] = [0, 0, 0, 0];
  let isWell = true;
  for (let seed = from; seed < from + seeds && isWell; seed++) {
    if (done >= atLeast && performance.now() - beganAt > seconds * 1000) break;
    const result = await runSeed(seed, options);
    done++;
    acks += result.acks;
    faults += result.faults.length;
    simulatedMs += result.simulatedMs;
    for (const point of result.crashes) crashes.add(point);
    if (done % COLLECT_EVERY_SEEDS === 0) Bun.gc(true);
    if (result.problems.length === 0) continue;
    isWell = false;
    for (const line of result.faults.slice(-SHOWN_FAULTS)) say(line);
    for (const problem of result.problems.slice(0, SHOWN_PROBLEMS)) say(`FAIL ${problem}`);
    say(`seed ${seed} failed, the ${done}th. Replay it: ${replay(seed)}`);
  }
  const tookS = (performance.now() - beganAt) / 1000;
  say(
    `${done} seeds in ${tookS.toFixed(1)} s (${(done / tookS).toFixed(1)}/s): ${acks} acked pins, ${faults} faults, ${Math.round(simulatedMs / 60_000)} simulated minutes`,
  );
  await close();
  const missed = pointsOf(given.withPostgres).filter((point) => !crashes.has(point));
  if (isWell && done >= ENOUGH_SEEDS && missed.length > 0) {
    say(`FAIL no process died at: ${missed.join('; ')}`);
    return false;
  }
  return isWell;
};
