import type { BlobStore } from '../blob/blob.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import { leaseHolder, type RunReason } from '../db/postgres/ledger.ts';
import { ALERT_KINDS, type Late, settleAlerts } from '../db/postgres/ledger-alerts.ts';
import {
  lastRun,
  lastScheduledRun,
  medianRunSeconds,
  runningRuns,
  schedulePause,
} from '../db/postgres/ledger-schedule.ts';
import { createOldestPending, type OldestPendingSeconds } from '../db/postgres/oldest-pending.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { sleep } from '../retry.ts';
import type { Schedule } from '../schedule.ts';
import type { RunOrder } from './batch-run.ts';
import { discover } from './clean-discover.ts';
import { CLEAN_LEASE } from './clean-lease.ts';
import type { Retrying } from './clean-retry.ts';

/** Between two looks, milliseconds: how late a retry may begin and an alert come; a handful of queries each. */
const LOOK_MS = 15_000;
/** A run is missed when it has not begun so long after its time, milliseconds; a run that is caught up waits as long. */
const MISSED_MS = 60_000;
/** A run is not called long below this, seconds: the median of small runs is milliseconds. */
const LONG_MIN_SECONDS = 30;
/** Runs a median needs to say anything. */
const MEDIAN_RUNS = 5;
/** The longest wait before a retry, seconds: doubling must not end in days. */
const RETRY_MAX_SECONDS = 6 * 3600;

export type WatchPolicy = {
  /** What was missed while no process ran is made up for, once for all of it. */
  readonly catchUp: boolean;
  readonly jitterSeconds: number;
  /** Retries of a scheduled run that failed or whose process died. */
  readonly retries: number;
  /** Before the first retry; doubles from retry to retry. */
  readonly retrySeconds: number;
  /** A run is late when it takes longer than so many times the median. */
  readonly longFactor: number;
  /** The archive is late when an object is older and not in every store, minutes. */
  readonly lateMinutes: number;
};

export const cleanPolicy = (config: Config): WatchPolicy => ({
  catchUp: config.CLEAN_CATCH_UP,
  jitterSeconds: config.CLEAN_JITTER_SECONDS,
  retries: config.CLEAN_RETRIES,
  retrySeconds: config.CLEAN_RETRY_SECONDS,
  longFactor: config.CLEAN_LONG_FACTOR,
  lateMinutes: config.CLEAN_LATE_MINUTES,
});

export type WatchDeps = {
  readonly store: BlobStore;
  readonly database: Database;
  readonly retrying: Retrying;
  readonly stores: readonly string[];
  readonly schedule: Pick<Schedule, 'previous'>;
  readonly policy: WatchPolicy;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly ask: (reason: RunReason, order: RunOrder) => Promise<unknown>;
};

/** What the ledger says at one moment. */
type Sight = {
  readonly now: number;
  readonly paused: boolean;
  /** Somebody holds the lease: what stands as `running` lives. */
  readonly isHeld: boolean;
  readonly scheduled: Awaited<ReturnType<typeof lastScheduledRun>>;
  readonly last: Awaited<ReturnType<typeof lastRun>>;
};

const look = async ({ database, clock }: WatchDeps): Promise<Sight> => ({
  now: clock.now(),
  paused: (await schedulePause(database, CLEAN_LEASE))?.paused ?? false,
  isHeld: (await leaseHolder(database, CLEAN_LEASE)) !== null,
  scheduled: await lastScheduledRun(database),
  last: await lastRun(database),
});

const millis = (stamp: string | null | undefined): number => (stamp == null ? Number.NaN : Date.parse(stamp));

type Wanted = { readonly reason: RunReason; readonly order: RunOrder };

/** The retry that is due of the last scheduled run, or null. One that died is due at once: its lease took its time to expire. */
const dueRetry = ({ policy, schedule }: WatchDeps, { now, isHeld, scheduled, last }: Sight): Wanted | null => {
  const isOff = schedule.previous(new Date(now)) === null;
  if (isOff || scheduled === null || isHeld || scheduled.status === 'done' || scheduled.attempt > policy.retries)
    return null;
  // Whatever ran well since then has done its work too.
  if (last !== null && last.id > scheduled.id && last.status === 'done') return null;
  const waitSeconds = Math.min(RETRY_MAX_SECONDS, policy.retrySeconds * 2 ** (scheduled.attempt - 1));
  const dueAt = scheduled.status === 'failed' ? millis(scheduled.endedAt) + waitSeconds * 1000 : 0;
  if (now < dueAt) return null;
  const { windowFrom, windowTo } = scheduled;
  const since = windowFrom === null ? null : new Date(windowFrom);
  const due = windowTo === null ? null : new Date(windowTo);
  return { reason: 'retry', order: { attempt: scheduled.attempt + 1, since, due } };
};

/** The run that makes up for the cron times since the last scheduled run, or null. */
const dueCatchUp = ({ policy, schedule }: WatchDeps, { now, isHeld, scheduled, last }: Sight): Wanted | null => {
  if (!policy.catchUp || isHeld || scheduled?.windowTo == null) return null;
  const due = schedule.previous(new Date(now - graceMs(policy)));
  if (due === null || due.getTime() <= millis(scheduled.windowTo)) return null;
  const isDone = last?.status === 'done' && millis(last.startedAt) >= due.getTime();
  return isDone ? null : { reason: 'catch-up', order: { since: new Date(scheduled.windowTo), due } };
};

const graceMs = ({ jitterSeconds }: WatchPolicy) => MISSED_MS + jitterSeconds * 1000;

const missedRun = ({ policy, schedule }: WatchDeps, sight: Sight, watchedSince: number): readonly Late[] => {
  const { now, paused, isHeld, last } = sight;
  const due = schedule.previous(new Date(now - graceMs(policy)));
  // Time to run is given first: after a start, and to what is under way.
  if (paused || isHeld || due === null || now - watchedSince < graceMs(policy)) return [];
  if (last === null && due.getTime() < watchedSince) return [];
  if (last !== null && Math.max(millis(last.startedAt), millis(last.endedAt ?? last.startedAt)) >= due.getTime())
    return [];
  const since = last === null ? 'there was none yet' : `the last one began ${last.startedAt}`;
  return [
    {
      kind: 'run_missed',
      subject: 'clean',
      detail: `no batch run since ${due.toISOString()}, when one was due; ${since}`,
    },
  ];
};

const longRun = async ({ database, policy }: WatchDeps, { isHeld }: Sight): Promise<readonly Late[]> => {
  if (!isHeld) return [];
  const running = (await runningRuns(database)).filter(({ seconds }) => seconds > LONG_MIN_SECONDS);
  const median = running.length === 0 ? null : await medianRunSeconds(database, MEDIAN_RUNS);
  if (median === null) return [];
  return running
    .filter(({ seconds }) => seconds > policy.longFactor * median)
    .map(({ id, seconds }) => ({
      kind: 'run_long',
      subject: 'clean',
      detail: `run ${id} is at work for ${Math.round(seconds)} s; the median is ${median.toFixed(1)} s`,
    }));
};

const lateArchive = async (
  { stores, policy }: WatchDeps,
  pendingSeconds: OldestPendingSeconds,
): Promise<readonly Late[]> => {
  const ages = await Promise.all(stores.map(async (store) => ({ store, seconds: await pendingSeconds(store) })));
  return ages
    .filter(({ seconds }) => seconds > policy.lateMinutes * 60)
    .map(({ store, seconds }) => ({
      kind: 'archive_late',
      subject: store,
      detail: `an archive object waits for ${store} for ${Math.round(seconds / 60)} minutes (CLEAN_LATE_MINUTES=${policy.lateMinutes})`,
    }));
};

export type CleanWatch = {
  /** One look: settles the alerts, and does the run that is due beside the cron times. @throws what the engines throw */
  readonly look: () => Promise<void>;
  /** Looks again and again until `signal` aborts. Never rejects. */
  readonly run: (signal: AbortSignal) => Promise<void>;
};

/** Beside the cron times: retries, catching up, and what is late. */
export const createCleanWatch = (deps: WatchDeps): CleanWatch => {
  const { database, metrics, logger, clock, policy } = deps;
  const watchedSince = clock.now();
  const pendingSeconds = createOldestPending(database);

  /** Without a run nobody would look into the archive: then this does, so that what waits there is known. */
  const discoverInstead = async ({ now, last }: Sight, signal: AbortSignal) => {
    const idleMs = now - (last === null ? watchedSince : millis(last.startedAt));
    if (idleMs > (policy.lateMinutes * 60_000) / 2) await discover(deps, signal);
  };

  /** @returns the run it began, which nobody has to wait for */
  const lookOnce = async (signal: AbortSignal): Promise<{ readonly begun: Promise<unknown> }> => {
    const sight = await look(deps);
    const wanted = sight.paused ? null : (dueRetry(deps, sight) ?? dueCatchUp(deps, sight));
    await discoverInstead(sight, signal);
    const late = [
      ...missedRun(deps, sight, watchedSince),
      ...(await longRun(deps, sight)),
      ...(await lateArchive(deps, pendingSeconds)),
    ];
    await settleAlerts(database, late);
    for (const kind of ALERT_KINDS) {
      metrics.batchAlerts.set({ kind }, late.filter((alert) => alert.kind === kind).length);
    }
    metrics.batchPaused.set(sight.paused ? 1 : 0);
    return { begun: wanted === null ? Promise.resolve() : deps.ask(wanted.reason, wanted.order) };
  };

  return {
    look: async () => {
      const { begun } = await lookOnce(new AbortController().signal);
      await begun;
    },
    run: async (signal) => {
      while (!signal.aborted) {
        await lookOnce(signal).catch((error: unknown) =>
          logger.debug({ error: messageOf(error) }, 'the schedule could not be looked after; again soon'),
        );
        await sleep(LOOK_MS, signal);
      }
    },
  };
};
