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
import { recentErrors } from './db/postgres/speed-view.ts';
import { createApp } from './edge/app.ts';
import type { PartState, Stage, Status } from './edge/deps.ts';
import { type Edge, startEdge } from './edge/server.ts';
import { locatePostgres } from './engines.ts';
import { createJourney } from './journey.ts';
import type { PinLog } from './log/log.ts';
import { openInlet, openLog } from './log/open.ts';
import type { Logger } from './logger.ts';
import { createMetrics, type Metrics, mergeMetrics } from './metrics.ts';
import { createSchedule } from './schedule.ts';
import { createSupervisor, type Supervisor, type WorkerState } from './supervisor.ts';
import type { WorkerRole } from './workers/protocol.ts';

/** The running program: the edge on this thread, the workers on theirs. `up` has both, `edge` and `work` one of them. */
export type Program = {
  readonly edgeUrl: string | null;
  readonly postgresUrl: string;
  readonly counts: () => Promise<Counts>;
  readonly workers: () => readonly WorkerState[];
  /** Stops accepting, flushes, commits, closes. Idempotent. */
  readonly stop: () => Promise<void>;
};

export type ProgramParts = { readonly edge: boolean; readonly work: boolean };

/** Connections of the main thread's own pool: it only answers look-ups of the edge. */
const LOOKUP_CONNECTIONS = 2;
const RECENT_ERRORS = 20;
const RECENT_RUNS = 10;
/** The order of a drain: readers of the log and the archive first, the Postgres they write to last. */
const DRAIN_ORDER: readonly WorkerRole[] = ['archive', 'clean', 'stream', 'postgres'];

type Lookups = { readonly database: Database; readonly store: BlobStore; readonly pinStores: readonly PinStore[] };

type Running = {
  readonly config: Config;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly supervisor: Supervisor;
  readonly log: PinLog;
};

const allMetrics = async ({ metrics, supervisor }: Pick<Running, 'metrics' | 'supervisor'>) => [
  await metrics.registry.getMetricsAsJSON(),
  ...supervisor.metrics().filter((posted) => posted.length > 0),
];

const readiness = ({ log, supervisor }: Running): readonly PartState[] => [
  { part: `log (${log.kind})`, ready: true },
  ...supervisor.states().map((worker) => ({
    part: worker.name,
    ready: worker.state === 'ready',
    ...(worker.state === 'ready' ? {} : { reason: worker.detail ?? worker.state }),
  })),
];

const statusOf = async (running: Running, lookups: Lookups): Promise<Status> => {
  const counts = readCounts(await allMetrics(running));
  const states = running.supervisor.states();
  const stage = (
    name: Stage['name'],
    engine: string,
    pins: number,
    role: WorkerRole | null,
    lag: number | null,
  ): Stage => {
    const failing = states.find((s) => s.role === role && s.state !== 'ready');
    const reason = failing && { reason: failing.detail ?? failing.state };
    return { name, engine, pins, lag, ready: failing === undefined, ...reason };
  };
  const { log, config } = running;
  return {
    stages: [
      stage('edge', 'hono', counts.accepted, null, null),
      stage('log', log.kind, counts.accepted, null, null),
      stage('archive', lookups.store.kind, counts.archived, 'archive', counts.archiveLag),
      stage('clean', lookups.pinStores.map((s) => s.name).join(' + '), counts.cleaned, 'clean', null),
      stage(
        'stream',
        config.POSTGRES_PORT ? 'embedded Postgres' : 'Postgres',
        counts.streamed,
        'stream',
        counts.streamLag,
      ),
    ],
    totals: { rejected: counts.rejected, errors: counts.errors, deadLetters: counts.deadLetters },
  };
};

/** The highest stamp given so far, as far as the log can tell: a clock that jumped back across a restart is held there. */
const stampFloor = async (log: PinLog): Promise<number> => ((await log.lastTimestamp()) ?? 0) * 1000 + 999;

/** The edge and its way into the log, which is closed after it. */
const openEdge = async (running: Running, lookups: Lookups): Promise<Edge> => {
  const { config, log, logger, metrics } = running;
  const { database, pinStores } = lookups;
  const inlet = await openInlet(config, log, { logger, metrics });
  const app = createApp({
    inlet,
    stamp: risingMicros(systemClock, await stampFloor(log)),
    clock: systemClock,
    limits: config,
    metrics,
    metricsText: async () => mergeMetrics(await allMetrics(running)),
    readiness: () => readiness(running),
    journey: createJourney({ log, database, pinStores }),
    status: () => statusOf(running, lookups),
    recentErrors: () => recentErrors(database, { limit: RECENT_ERRORS }),
    recentRuns: () => recentRuns(database, RECENT_RUNS),
    logger,
  });
  const { HOST: host, PORT: port, REQUEST_TIMEOUT_MS: requestTimeoutMs } = config;
  const edge = startEdge({ app, host, port, requestTimeoutMs, logger });
  const stopBoth = async (deadlineMs: number) => {
    const cut = await edge.stop(deadlineMs);
    await inlet.close();
    return cut;
  };
  return { ...edge, stop: stopBoth };
};

const workersOf = (config: Config, parts: ProgramParts, hostsPostgres: boolean) => ({
  postgres: hostsPostgres ? 1 : 0,
  archive: parts.work ? config.WORKERS_ARCHIVE : 0,
  clean: parts.work ? config.WORKERS_CLEAN : 0,
  stream: parts.work ? config.WORKERS_STREAM : 0,
});

type StartOptions = {
  readonly config: Config;
  readonly parts: ProgramParts;
  readonly logger: Logger;
  readonly command: string;
};

/**
 * Starts the parts asked for. The edge answers as soon as the log is open; Postgres and the other engines join behind it.
 * @throws PinflowError `in_use` when another program has this DATA_DIR or PORT, `config`, `log_unavailable`
 */
export const startProgram = async ({ config: given, parts, logger, command }: StartOptions): Promise<Program> => {
  // A wrong expression is told at once, rather than by a worker that dies again and again.
  createSchedule({ cron: given.CLEAN_CRON, timezone: given.CLEAN_TIMEZONE, run: async () => {}, logger }).stop();
  const locks: Lock[] = [];
  if (parts.edge) locks.push(lockOrThrow(given.DATA_DIR, 'edge', command));
  try {
    const postgres = await locatePostgres(given, command);
    if (postgres.lock !== null) {
      locks.push(postgres.lock);
      // At once: a program that was killed leaves its own address, which a command would try until then.
      writePostgresAddress(given.DATA_DIR, postgres.url);
    }
    const config: Config = Object.freeze({ ...given, DATABASE_URL: postgres.url, POSTGRES_PORT: postgres.port });
    const metrics = createMetrics({ withProcess: true });
    const workers = workersOf(config, parts, postgres.lock !== null);
    const supervisor = createSupervisor({ config, workers, logger, metrics });
    const running: Running = { config, logger, metrics, supervisor, log: await openLog(config, { logger }) };
    const lookups: Lookups = {
      database: openPostgres({ url: postgres.url, max: LOOKUP_CONNECTIONS, logger, applicationName: 'pinflow-edge' }),
      store: await openBlobStore(config),
      pinStores: await openPinStores(config, logger),
    };
    const edge = parts.edge ? await openEdge(running, lookups) : null;
    supervisor.start();
    return {
      edgeUrl: edge?.url ?? null,
      postgresUrl: postgres.url,
      counts: async () => readCounts(await allMetrics(running)),
      workers: supervisor.states,
      stop: once(() => stop(running, lookups, edge, locks)),
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
  edge: Edge | null,
  locks: readonly Lock[],
) => {
  const deadline = Date.now() + config.DRAIN_TIMEOUT_MS;
  await edge?.stop(config.DRAIN_TIMEOUT_MS);
  await lookups.database.close();
  await supervisor.drain(DRAIN_ORDER, Math.max(0, deadline - Date.now()));
  await Promise.all([log.close(), lookups.store.close(), ...lookups.pinStores.map((s) => s.close())]);
  if (config.POSTGRES_PORT !== 0) removePostgresAddress(config.DATA_DIR);
  for (const lock of locks) lock.release();
};
