import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Injury, inflictAll, injuriesOf } from '../chaos/injuries.ts';
import { lastingPort, ownPlaces } from '../chaos/places.ts';
import { type ChaosReport, isGood, reportPage } from '../chaos/report.ts';
import { type Subject, startSubject } from '../chaos/subject.ts';
import { tally } from '../chaos/tally.ts';
import { postPins, type Traffic } from '../chaos/traffic.ts';
import { systemClock } from '../clock.ts';
import { type Config, environmentWith, readConfig } from '../config.ts';
import { openEngines } from '../engines.ts';
import { reconcile } from '../reconcile.ts';
import { sleep } from '../retry.ts';
import { commandContext, type Format, printObjects, say } from './context.ts';
import { firstKey } from './emulate.ts';

type Options = {
  readonly pins: number;
  readonly seconds: number;
  readonly seed: number;
  readonly out?: string;
  readonly format: Format;
};

/** Until all places are equal, milliseconds: a batch run's lease of a dead holder alone lasts half a minute. */
const SETTLE_MS = 180_000;
const LOOK_AGAIN_MS = 1000;

type Run = {
  readonly config: Config;
  readonly program: Subject;
  readonly second: Subject;
  readonly injuries: readonly Injury[];
};

const startRun = async (settings: Readonly<Record<string, string>>, dir: string): Promise<Run> => {
  const ports = { PORT: String(await lastingPort()), POSTGRES_PORT: String(await lastingPort()), HOST: '127.0.0.1' };
  // No METRICS_PORT: both processes would take it.
  const env = environmentWith({ ...settings, ...ports, METRICS_PORT: '' });
  const config = readConfig(env);
  const drainTimeoutMs = config.DRAIN_TIMEOUT_MS;
  const program = startSubject({ command: 'up', env, output: join(dir, 'up.log'), drainTimeoutMs });
  const second = startSubject({ command: 'work', env, output: join(dir, 'work.log'), drainTimeoutMs });
  const hosted = config.DATABASE_URL === undefined ? (['postgres'] as const) : [];
  return { config, program, second, injuries: injuriesOf(program, second, [...hosted, 'archive', 'clean', 'stream']) };
};

/** Posts and injures at once, until all is posted and every injury was inflicted. */
const injure = async ({ config, program, second, injuries }: Run, options: Options) => {
  const { pins, seconds, seed } = options;
  const stop = new AbortController();
  const posted = new AbortController();
  const traffic = postPins({
    url: `http://${config.HOST}:${config.PORT}`,
    pins,
    seconds,
    seed,
    clock: systemClock,
    apiKey: firstKey(config.API_KEYS),
    signal: stop.signal,
  }).finally(() => posted.abort());
  const onInjury = (name: string) => say(name);
  const faults = inflictAll(injuries, { seed, signal: posted.signal, onInjury });
  try {
    const both = Promise.all([traffic, faults]);
    return await Promise.race([both, program.failed, second.failed]);
  } finally {
    stop.abort();
  }
};

/** Waits until log, archive and views agree. @returns false when they do not within SETTLE_MS; the tally then says where */
const settle = async (config: Config): Promise<boolean> => {
  const { logger } = commandContext('chaos');
  const engines = await openEngines(config, logger, 'chaos');
  const deadline = Date.now() + SETTLE_MS;
  try {
    for (;;) {
      const { equal } = await reconcile(engines);
      if (equal || Date.now() > deadline) return equal;
      await sleep(LOOK_AGAIN_MS);
    }
  } finally {
    await engines.close();
  }
};

const countAll = async (config: Config, { acked }: Traffic) => {
  const { logger } = commandContext('chaos');
  const engines = await openEngines(config, logger, 'chaos');
  try {
    const { log, store, pinStores } = engines;
    const postgres = config.DATABASE_URL === undefined ? 'embedded Postgres' : 'Postgres';
    const kinds = [log.kind, store.kind, ...pinStores.map((each) => each.name), postgres];
    return { places: await tally(engines, acked), engines: kinds };
  } finally {
    await engines.close();
  }
};

const print = (report: ChaosReport, format: Format) => {
  if (format === 'json') return void process.stdout.write(`${JSON.stringify(report)}\n`);
  printObjects(report.places, format, []);
  if (format === 'csv') return;
  printObjects(
    Object.entries(report.faults).map(([fault, times]) => ({ fault, times })),
    format,
    [],
  );
  say(`longest time without a 2xx: ${report.longestSecondsWithout2xx} s`);
  say(`acked ${report.acked}, lost ${report.lost}, duplicated ${report.duplicated}`);
};

/** Injures the real program while pins flow, then counts. @returns 0 when nothing is lost and nothing duplicated */
export const chaos = async (options: Options): Promise<number> => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-chaos-'));
  const { config: given, logger } = commandContext('chaos');
  const name = crypto.randomUUID().slice(0, 8);
  const { settings, left } = await ownPlaces(given, dir, name, logger);
  mkdirSync(settings.DATA_DIR ?? dir, { recursive: true });
  const startedAt = Date.now();
  const run = await startRun(settings, dir);
  say(`seed ${options.seed}; data and output of the processes in ${dir}`);
  const [traffic, faults] = await injure(run, options);
  say('all posted; waiting until every place has everything');
  if (!(await settle(run.config))) say(`not equal after ${SETTLE_MS / 1000} s: counting what is there`);
  await Promise.all([run.program.drain(), run.second.drain()]);
  const { places, engines } = await countAll(run.config, traffic);
  const report: ChaosReport = {
    seed: options.seed,
    engines,
    seconds: Math.round((Date.now() - startedAt) / 1000),
    acked: traffic.posted,
    ids: traffic.acked.size,
    lost: Math.max(...places.map(({ lost }) => lost)),
    duplicated: Math.max(...places.map(({ duplicated }) => duplicated)),
    places,
    faults,
    statuses: traffic.statuses,
    longestSecondsWithout2xx: Math.round(traffic.longestGapMs / 100) / 10,
  };
  print(report, options.format);
  if (options.out !== undefined) await Bun.write(options.out, reportPage(report));
  for (const place of left) say(`left behind: ${place}`);
  if (isGood(report)) rmSync(dir, { recursive: true, force: true });
  return isGood(report) ? 0 : 1;
};
