import { hostname } from 'node:os';
import { systemClock } from '../clock.ts';
import { objectTotals } from '../db/postgres/ledger-pages.ts';
import { openCountingPool } from '../dry-run-pool.ts';
import type { Engines } from '../engines.ts';
import { PinflowError } from '../errors.ts';
import { deadLetterSender } from '../log/dlq.ts';
import type { Logger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import type { RunOrder, RunReason, RunSummary } from '../workers/batch-run.ts';
import { discover } from '../workers/clean-discover.ts';
import { dryRun } from '../workers/clean-dry-run.ts';
import { type CleanHours, hoursBetween } from '../workers/clean-hours.ts';
import { createRetrying } from '../workers/clean-retry.ts';
import { cleanPolicy } from '../workers/clean-watch.ts';
import { createCleaner } from '../workers/cleaner.ts';
import { startProgress } from './clean-progress.ts';
import { type Format, printObjects, say, withEngines } from './context.ts';

export type CleanOptions = {
  readonly format: Format;
  /** First and last day, or hour, of a backfill. */
  readonly from?: string;
  readonly to?: string;
  readonly store?: string;
  readonly dryRun?: boolean;
  readonly rebuild?: boolean;
};

type Wish = { readonly reason: RunReason; readonly hours: CleanHours | null; readonly stores?: readonly string[] };

const wrong = (message: string) => new PinflowError('config', message);

const wishOf = ({ from, to, store, dryRun: isDry, rebuild }: CleanOptions): Wish => {
  const hours = from === undefined && to === undefined ? null : hoursBetween(from, to);
  if (rebuild && hours !== null) throw wrong('--rebuild goes over the whole archive: leave out --from and --to.');
  if (isDry && hours === null) throw wrong('--dry-run says what a backfill would do: give it --from and --to.');
  if (store !== undefined && hours === null && !rebuild)
    throw wrong('--store goes with --from and --to, or --rebuild.');
  const reason = rebuild ? 'rebuild' : hours === null ? 'manual' : 'backfill';
  return { reason, hours, ...(store === undefined ? {} : { stores: [store] }) };
};

/** Pins that will go by, of all stores together. */
const totalsOf = async ({ store, database, pinStores }: Engines, wish: Wish, logger: Logger, stores: number) => {
  const retrying = createRetrying({ metrics: createMetrics(), logger });
  await discover({ store, database, retrying }, new AbortController().signal);
  const { objects, pins, bytes } = await objectTotals(database, wish.hours);
  const times = Math.min(stores, pinStores.length);
  return { objects: objects * times, pins: pins * times, bytes: bytes * times };
};

const tryOut = async (engines: Engines, wish: Wish, logger: Logger, format: Format): Promise<number> => {
  if (wish.hours === null) return 1;
  const { store, database } = engines;
  const totals = await totalsOf(engines, wish, logger, 1);
  const [progress, pool] = [startProgress(totals), openCountingPool(totals.objects)];
  const retrying = createRetrying({ metrics: createMetrics(), logger });
  const deps = { store, database, retrying, counters: pool.counters };
  const { damaged, ...found } = await dryRun(deps, wish.hours, progress.step).finally(async () => {
    progress.stop();
    await pool.close();
  });
  for (const object of damaged) say(object);
  printObjects([found], format, []);
  return damaged.length === 0 ? 0 : 1;
};

const printSummary = ({ quality, ...counts }: RunSummary, format: Format) =>
  printObjects([format === 'json' ? { ...counts, quality } : counts], format, []);

/** One batch run in this process, beside a running program or without one: the lease keeps them apart. */
export const clean = (options: CleanOptions): Promise<number> => {
  const wish = wishOf(options);
  return withEngines('clean', async (engines, { logger }) => {
    if (options.dryRun) return tryOut(engines, wish, logger, options.format);
    const { config, store, pinStores, database, deadLetters } = engines;
    const cleaner = createCleaner({
      store,
      pinStores,
      database,
      sendDeadLetters: deadLetterSender(deadLetters),
      metrics: createMetrics(),
      logger,
      clock: systemClock,
      status: () => {},
      schedule: { cron: 'off', timezone: config.CLEAN_TIMEZONE },
      policy: cleanPolicy(config),
      keptDays: config.CLEAN_KEPT_DAYS,
      timeoutSeconds: config.CLEAN_TIMEOUT_SECONDS,
      holder: `${hostname()}:${process.pid}:clean`,
    });
    const { reason, hours, stores } = wish;
    const lanes = stores?.length ?? pinStores.length;
    const isLong = reason !== 'manual';
    const totals = isLong ? await totalsOf(engines, wish, logger, lanes) : { objects: 0, pins: 0, bytes: 0 };
    const progress = startProgress(totals);
    const order: RunOrder = { stores, onStep: progress.step, ...(hours === null ? {} : { hours }) };
    const stopEarly = () => void cleaner.drain();
    process.once('SIGINT', stopEarly);
    const summary = await cleaner.runNow(reason, order).finally(progress.stop);
    process.removeListener('SIGINT', stopEarly);
    printSummary(summary, options.format);
    if (summary.error !== null && options.format !== 'json') say(summary.error);
    return summary.status === 'done' ? 0 : 1;
  });
};
