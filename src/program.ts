import packageJson from '../package.json' with { type: 'json' };
import type { BlobStore } from './blob/blob.ts';
import { openBlobStore } from './blob/open.ts';
import { risingMicros, systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { type Counts, readCounts } from './counts.ts';
import { type Lock, lockOrThrow, removePostgresAddress, writePostgresAddress } from './data-dir.ts';
import { openPinStores } from './db/pin-store/open.ts';
import type { PinStore } from './db/pin-store/pin-store.ts';
import { recentRuns } from './db/postgres/ledger.ts';
import { type Database, openPostgres } from './db/postgres/open.ts';
import { recentErrors, streamOffsets } from './db/postgres/speed-view.ts';
import { createApp } from './edge/app.ts';
import type { PartState, Status } from './edge/deps.ts';
import { startHistory } from './edge/history.ts';
import { type Edge, startEdge } from './edge/server.ts';
import { createWatchApp } from './edge/watch-app.ts';
import { createEdgeLookups } from './edge-lookups.ts';
import { configFor, locatePostgres } from './engines.ts';
import { createGauges, type Gauges } from './gauges.ts';
import { createJourney } from './journey.ts';
import type { Inlet, InletState } from './log/inlet.ts';
import type { PinLog } from './log/log.ts';
import { ARCHIVE_GROUP, STREAM_GROUP } from './log/names.ts';
import { openDeadLetterLog, openInlet, openLog } from './log/open.ts';
import type { Logger } from './logger.ts';
import { createMetrics, type Metrics, mergeMetrics } from './metrics.ts';
import { pipelineStatus } from './pipeline-status.ts';
import { createReconcileSchedule } from './reconcile-schedule.ts';
import { atMost } from './retry.ts';
import { createSchedule } from './schedule.ts';
import { createSupervisor, type Supervisor, type WorkerState } from './supervisor.ts';
import { watchThread } from './thread-metrics.ts';
import { openTracing } from './tracing/open.ts';
import type { WorkerRole } from './workers/protocol.ts';

/** The running program: the edge on this thread, the workers on theirs. `up` has both, `edge` and `work` one of them. */
export type Program = {
  readonly edgeUrl: string | null;
  readonly metricsUrl: string | null;
  readonly postgresUrl: string;
  readonly counts: () => Promise<Counts>;
  readonly workers: () => readonly WorkerState[];
  readonly endWorker: (role: WorkerRole) => number;
  /** Stops accepting, flushes, commits, closes. Idempotent. */
  readonly stop: () => Promise<void>;
};

export type ProgramParts = { readonly edge: boolean; readonly work: boolean };

/** Connections of each of the main thread's own pools: look-ups of the edge, and the dashboard's SQL. */
const LOOKUP_CONNECTIONS = 2;
const RECENT_ERRORS = 20;
const RECENT_RUNS = 60;
/** A drain: readers of the log and the archive first, all at once, as one that hangs must not cost the others their time; the Postgres they write to last. */
const DRAIN_ORDER: readonly (readonly WorkerRole[])[] = [['archive', 'clean', 'stream'], ['postgres']];
/** Longest the main thread's own connections take to close, milliseconds: nothing is under way on them any more, and the end of the process closes them too. */
const CLOSE_TIMEOUT_MS = 1000;

type Lookups = {
  readonly database: Database;
  readonly embeddedPostgres: boolean;
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
};

type Running = {
  readonly config: Config;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly supervisor: Supervisor;
  readonly log: PinLog;
};

const allMetrics = async ({ metrics, supervisor }: Pick<Running, 'metrics' | 'supervisor'>) => {
  for (const { name, state } of supervisor.states()) {
    metrics.workerReady.set({ worker: name }, state === 'ready' ? 1 : 0);
  }
  return [await metrics.registry.getMetricsAsJSON(), ...supervisor.metrics().filter((posted) => posted.length > 0)];
};

/** Metrics of the main thread, which speaks for the process. */
const createMainMetrics = (): Metrics => {
  const metrics = createMetrics({ withProcess: true });
  metrics.buildInfo.set({ version: packageJson.version, bun: Bun.version }, 1);
  return metrics;
};

const gaugesOf = ({ config, log, logger, metrics }: Running, { database, pinStores }: Lookups): Gauges =>
  createGauges({
    log,
    openDeadLetters: () => openDeadLetterLog(config, { logger }),
    database,
    groups: [ARCHIVE_GROUP, STREAM_GROUP],
    stores: pinStores.map((store) => store.name),
    metrics,
    clock: systemClock,
    logger,
  });

/** While the broker fails pins are taken all the same, and wait in the spool: who asks whether all is well should know. */
const inletReadiness = (log: PinLog, { outage, spooled }: InletState): readonly PartState[] => [
  { part: `log (${log.kind})`, ready: outage === null, ...(outage === null ? {} : { reason: outage }) },
  ...(spooled === 0 ? [] : [{ part: 'spool', ready: false, reason: `${spooled} pins wait here for the broker` }]),
];

const workerReadiness = ({ supervisor }: Running): readonly PartState[] =>
  supervisor.states().map((worker) => ({
    part: worker.name,
    ready: worker.state === 'ready',
    ...(worker.state === 'ready' ? {} : { reason: worker.detail ?? worker.state }),
  }));

/** @param inlet of the edge; null where there is none */
const readiness = (running: Running, inlet: Inlet | null): readonly PartState[] => [
  ...(inlet === null ? [] : inletReadiness(running.log, inlet.state())),
  ...workerReadiness(running),
];

const statusOf = async (running: Running, lookups: Lookups): Promise<Status> =>
  pipelineStatus({
    perThread: await allMetrics(running),
    workers: running.supervisor.states(),
    engines: {
      edge: 'hono',
      log: running.log.kind,
      archive: lookups.store.kind,
      clean: lookups.pinStores.map((store) => store.name).join(' + '),
      stream: lookups.embeddedPostgres ? 'embedded Postgres' : 'Postgres',
    },
  });

/** The highest stamp given so far, as far as the log can tell: a clock that jumped back across a restart is held there. */
const stampFloor = async (log: PinLog): Promise<number> => ((await log.lastTimestamp()) ?? 0) * 1000 + 999;

const openLookupPool = (url: string, logger: Logger, applicationName: string): Database =>
  openPostgres({ url, max: LOOKUP_CONNECTIONS, logger, applicationName });

/** The edge over its way into the log, which is closed after it. */
const openEdge = async (running: Running, lookups: Lookups, inlet: Inlet): Promise<Edge> => {
  const { config, log, logger, metrics } = running;
  const { database, pinStores } = lookups;
  const status = () => statusOf(running, lookups);
  const history = startHistory({ status, clock: systemClock, logger });
  const queries = openLookupPool(config.DATABASE_URL ?? '', logger, 'pinflow-sql');
  const { close: closeLookups, ...edgeLookups } = createEdgeLookups({
    log,
    database,
    queries,
    embeddedPostgres: lookups.embeddedPostgres,
    openDeadLetters: () => openDeadLetterLog(config, { logger }),
  });
  const tracing = await openTracing(config, 'main');
  const app = createApp({
    inlet,
    tracing,
    stamp: risingMicros(systemClock, await stampFloor(log)),
    clock: systemClock,
    limits: config,
    metrics,
    metricsText: async () => mergeMetrics(await allMetrics(running)),
    readiness: () => readiness(running, inlet),
    journey: createJourney({ log, database, pinStores }),
    status,
    history: history.samples,
    ...edgeLookups,
    feedback: { handled: () => streamOffsets(database, log.topic), read: log.read },
    recentErrors: () => recentErrors(database, { limit: RECENT_ERRORS }),
    recentRuns: () => recentRuns(database, RECENT_RUNS),
    logger,
  });
  const { HOST: host, PORT: port, REUSE_PORT: reusePort, REQUEST_TIMEOUT_MS, FEEDBACK_WAIT_MS } = config;
  // A request may be silent for both, one after the other.
  const requestTimeoutMs = REQUEST_TIMEOUT_MS + FEEDBACK_WAIT_MS;
  const edge = startEdge({ app, host, port, reusePort, requestTimeoutMs, logger });
  const stopBoth = async (deadlineMs: number) => {
    history.stop();
    const cut = await edge.stop(deadlineMs);
    await Promise.all([inlet.close(), closeLookups(), queries.close(), tracing?.close()]);
    return cut;
  };
  return { ...edge, stop: stopBoth };
};

/** Where this process alone is asked how it is, also when it shares the edge's port with others; null unless METRICS_PORT is set. */
const openWatch = (running: Running, inlet: Inlet | null): Edge | null => {
  const { HOST: host, METRICS_PORT: port, REQUEST_TIMEOUT_MS: requestTimeoutMs } = running.config;
  if (port === undefined) return null;
  const app = createWatchApp({
    limits: running.config,
    metricsText: async () => mergeMetrics(await allMetrics(running)),
    readiness: () => readiness(running, inlet),
    logger: running.logger,
  });
  return startEdge({ app, host, port, portSetting: 'METRICS_PORT', requestTimeoutMs, logger: running.logger });
};

const workersOf = (config: Config, parts: ProgramParts, hostsPostgres: boolean) => ({
  postgres: hostsPostgres ? 1 : 0,
  archive: parts.work ? config.WORKERS_ARCHIVE : 0,
  clean: parts.work ? config.WORKERS_CLEAN : 0,
  stream: parts.work ? config.WORKERS_STREAM : 0,
});

/** Where the workers are: edges may be many. */
const scheduleReconcile = ({ config, metrics, logger }: Running, parts: ProgramParts) => {
  const { RECONCILE_CRON: cron, CLEAN_TIMEZONE: timezone } = config;
  const schedule = createReconcileSchedule({ cron, timezone, metrics, clock: systemClock, logger });
  if (parts.work) schedule.start();
  return schedule;
};

/** A wrong expression is told at once, rather than by a worker that dies again and again. @throws PinflowError `config` */
const checkSchedules = (config: Config, logger: Logger): void => {
  const timezone = config.CLEAN_TIMEZONE;
  for (const setting of ['CLEAN_CRON', 'RECONCILE_CRON'] as const) {
    createSchedule({ cron: config[setting], timezone, setting, run: async () => {}, logger }).stop();
  }
};

type StartOptions = {
  readonly config: Config;
  readonly parts: ProgramParts;
  readonly logger: Logger;
  readonly command: string;
};

/**
 * Starts the parts asked for. The edge answers as soon as the log is open; Postgres and the other engines join behind it.
 * @throws PinflowError `in_use` when another program has this DATA_DIR, PORT or METRICS_PORT, `config`, `log_unavailable`
 */
export const startProgram = async ({ config: given, parts, logger, command }: StartOptions): Promise<Program> => {
  checkSchedules(given, logger);
  const locks: Lock[] = [];
  if (parts.edge) locks.push(lockOrThrow(given.DATA_DIR, 'edge', command));
  try {
    const postgres = await locatePostgres(given, command);
    if (postgres.lock !== null) {
      locks.push(postgres.lock);
      // At once: a program that was killed leaves its own address, which a command would try until then.
      writePostgresAddress(given.DATA_DIR, postgres.url);
    }
    const config = configFor(given, postgres);
    const metrics = createMainMetrics();
    const workers = workersOf(config, parts, postgres.lock !== null);
    const supervisor = createSupervisor({ config, workers, logger, metrics });
    const running: Running = { config, logger, metrics, supervisor, log: await openLog(config, { logger }) };
    const lookups: Lookups = {
      database: openLookupPool(postgres.url, logger, 'pinflow-edge'),
      embeddedPostgres: given.DATABASE_URL === undefined,
      store: await openBlobStore(config),
      pinStores: await openPinStores(config, logger),
    };
    const inlet = parts.edge ? await openInlet(config, running.log, { logger, metrics }) : null;
    const edge = inlet === null ? null : await openEdge(running, lookups, inlet);
    // After the edge: who reads there that all is ready may send pins.
    const watch = openWatch(running, inlet);
    const told = watch ?? edge;
    supervisor.start();
    const stopWatching = watchThread(metrics, 'main');
    const gauges = gaugesOf(running, lookups);
    gauges.start();
    const reconciling = scheduleReconcile(running, parts);
    const stopMeasuring = async () => {
      stopWatching();
      reconciling.stop();
      await gauges.stop();
    };
    return {
      edgeUrl: edge?.url ?? null,
      metricsUrl: told === null ? null : `${told.url}/metrics`,
      postgresUrl: postgres.url,
      counts: async () => readCounts(await allMetrics(running)),
      workers: supervisor.states,
      endWorker: supervisor.end,
      stop: once(async () => {
        await Promise.all([atMost(stopMeasuring(), CLOSE_TIMEOUT_MS), stop(running, lookups, [edge, watch], locks)]);
      }),
    };
  } catch (error) {
    for (const lock of locks) lock.release();
    throw error;
  }
};

const once = (work: () => Promise<void>): (() => Promise<void>) => {
  let result: Promise<void> | undefined;
  return () => {
    result ??= work();
    return result;
  };
};

const stop = async (
  { config, log, supervisor }: Running,
  lookups: Lookups,
  servers: readonly (Edge | null)[],
  locks: readonly Lock[],
) => {
  const deadline = Date.now() + config.DRAIN_TIMEOUT_MS;
  await Promise.all(servers.map((server) => server?.stop(config.DRAIN_TIMEOUT_MS)));
  // Before the embedded Postgres goes.
  await atMost(lookups.database.close(), CLOSE_TIMEOUT_MS);
  await supervisor.drain(DRAIN_ORDER, Math.max(0, deadline - Date.now()));
  const { store, pinStores } = lookups;
  await atMost(Promise.all([log, store, ...pinStores].map((each) => each.close())), CLOSE_TIMEOUT_MS);
  if (config.POSTGRES_PORT !== 0) removePostgresAddress(config.DATA_DIR);
  for (const lock of locks) lock.release();
};
