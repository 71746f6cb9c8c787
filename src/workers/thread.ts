import { hostname } from 'node:os';
import { openBlobStore } from '../blob/open.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { openPinStores } from '../db/pin-store/open.ts';
import { startEmbeddedPostgres } from '../db/postgres/embedded.ts';
import { migratePostgres } from '../db/postgres/migrate.ts';
import { type Database, openPostgres } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import { deadLetterSender } from '../log/dlq.ts';
import { ARCHIVE_GROUP, STREAM_GROUP } from '../log/names.ts';
import { openDeadLetterLog, openLog } from '../log/open.ts';
import { createLogger, type Logger } from '../logger.ts';
import { createMetrics, type Metrics } from '../metrics.ts';
import { retry } from '../retry.ts';
import { watchThread } from '../thread-metrics.ts';
import { openTracing } from '../tracing/open.ts';
import type { Tracing } from '../tracing/tracing.ts';
import { createArchiver } from './archiver.ts';
import { cleanPolicy } from './clean-watch.ts';
import { createCleaner } from './cleaner.ts';
import {
  type FromWorker,
  HEARTBEAT_MS,
  type ToWorker,
  type Worker,
  type WorkerRole,
  type WorkerStatus,
} from './protocol.ts';
import { createStreamer } from './streamer.ts';

/**
 * The entry of every worker thread: opens what its role needs, runs the handler, and speaks the protocol for it.
 * What it throws ends the thread; the supervisor starts another.
 */
declare const self: {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage: (message: FromWorker) => void;
};

type Context = {
  readonly config: Config;
  readonly name: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
  readonly status: (status: WorkerStatus) => void;
  /** Aborts when the worker is to drain, so that waiting for an engine ends too. */
  readonly signal: AbortSignal;
};

type Opened = { readonly worker: Worker; readonly close: () => Promise<void> };

/** The engines may come up after us: migrating waits for Postgres rather than failing. */
const openMigrated = async ({ config, name, logger, status, signal }: Context): Promise<Database> => {
  const database = openPostgres({ url: config.DATABASE_URL ?? '', logger, applicationName: `pinflow-${name}` });
  await retry(() => migratePostgres(database), {
    attempts: Number.POSITIVE_INFINITY,
    baseMs: 50,
    maxMs: 2000,
    signal,
    onRetry: (error) => status({ state: 'waiting', reason: messageOf(error) }),
  });
  return database;
};

const openPostgresHost = async ({ config, logger }: Context): Promise<Opened & { readonly detail: string }> => {
  const postgres = await startEmbeddedPostgres({
    dir: `${config.DATA_DIR}/postgres`,
    port: config.POSTGRES_PORT,
    logger,
  });
  const stopped = Promise.withResolvers<void>();
  return {
    detail: postgres.url,
    worker: { run: () => Promise.race([stopped.promise, postgres.done]), drain: async () => stopped.resolve() },
    close: postgres.close,
  };
};

const openArchive = async ({ config, logger, metrics, status, tracing }: Context): Promise<Opened> => {
  const [log, store] = [await openLog(config, { logger }), await openBlobStore(config)];
  const worker = createArchiver({
    log,
    store,
    metrics,
    tracing,
    logger,
    clock: systemClock,
    status,
    group: ARCHIVE_GROUP,
    limits: {
      maxBytes: config.ARCHIVE_MAX_BYTES,
      maxPins: config.ARCHIVE_MAX_PINS,
      maxSeconds: config.ARCHIVE_MAX_SECONDS,
    },
  });
  return { worker, close: async () => void (await Promise.all([log.close(), store.close()])) };
};

const openStream = async (context: Context): Promise<Opened> => {
  const { config, logger, metrics, status, tracing } = context;
  const [log, dlq] = [await openLog(config, { logger }), await openDeadLetterLog(config, { logger })];
  const database = await openMigrated(context);
  const worker = createStreamer({
    log,
    database,
    sendDeadLetters: deadLetterSender(dlq),
    metrics,
    tracing,
    logger,
    clock: systemClock,
    status,
    topic: config.PIN_TOPIC,
    group: STREAM_GROUP,
    limits: { maxPins: config.STREAM_MAX_PINS, maxBytes: config.STREAM_MAX_BYTES },
    kept: { pins: config.SPEED_KEPT_DAYS, windows: config.WINDOWS_KEPT_DAYS },
  });
  return { worker, close: async () => void (await Promise.all([log.close(), dlq.close(), database.close()])) };
};

const openClean = async (context: Context): Promise<Opened> => {
  const { config, logger, metrics, status, tracing } = context;
  const [dlq, store] = [await openDeadLetterLog(config, { logger }), await openBlobStore(config)];
  const [pinStores, database] = [await openPinStores(config, logger), await openMigrated(context)];
  const worker = createCleaner({
    store,
    pinStores,
    database,
    sendDeadLetters: deadLetterSender(dlq),
    metrics,
    tracing,
    logger,
    clock: systemClock,
    status,
    schedule: { cron: config.CLEAN_CRON, timezone: config.CLEAN_TIMEZONE },
    policy: cleanPolicy(config),
    keptDays: config.CLEAN_KEPT_DAYS,
    timeoutSeconds: config.CLEAN_TIMEOUT_SECONDS,
    holder: `${hostname()}:${process.pid}`,
  });
  const close = async () => {
    await Promise.all([dlq.close(), store.close(), database.close(), ...pinStores.map((s) => s.close())]);
  };
  return { worker, close };
};

const OPEN: Readonly<Record<WorkerRole, (context: Context) => Promise<Opened & { readonly detail?: string }>>> = {
  postgres: openPostgresHost,
  archive: openArchive,
  stream: openStream,
  clean: openClean,
};

const post = (message: FromWorker) => self.postMessage(message);

const start = async ({ role, name, config }: Extract<ToWorker, { type: 'start' }>, signal: AbortSignal) => {
  const logger = createLogger(config.LOG_LEVEL, name);
  const metrics = createMetrics();
  const stopWatching = watchThread(metrics, name);
  post({ type: 'hello', name });
  const beat = setInterval(async () => {
    post({ type: 'heartbeat', name, at: Date.now() });
    post({ type: 'metrics', name, metrics: await metrics.registry.getMetricsAsJSON() });
  }, HEARTBEAT_MS);
  const status = (now: WorkerStatus) =>
    post(now.state === 'ready' ? { type: 'ready', name } : { type: 'waiting', name, reason: now.reason });
  const tracing = await openTracing(config, name);
  const opened = await OPEN[role]({ config, name, logger, metrics, tracing, status, signal });
  post({ type: 'ready', name, ...(opened.detail === undefined ? {} : { detail: opened.detail }) });
  const drain = () => void opened.worker.drain();
  if (signal.aborted) drain();
  else signal.addEventListener('abort', drain);
  await opened.worker.run();
  await opened.close();
  await tracing?.close();
  clearInterval(beat);
  stopWatching();
  post({ type: 'metrics', name, metrics: await metrics.registry.getMetricsAsJSON() });
  post({ type: 'drained', name });
};

const draining = new AbortController();

self.onmessage = ({ data }) => {
  if (data.type === 'drain') draining.abort();
  if (data.type !== 'start') return;
  start(data, draining.signal).catch((error) => {
    // An engine that was still awaited when the drain came: nothing was begun, so nothing is left to finish.
    if (draining.signal.aborted) return post({ type: 'drained', name: data.name });
    // Thrown outside the promise, so that it reaches the supervisor as the thread's own error.
    setTimeout(() => {
      throw error;
    });
  });
};
