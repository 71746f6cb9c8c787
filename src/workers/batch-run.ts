import type { Clock } from '../clock.ts';
import {
  abandonRuns,
  finishRun,
  leaseHolder,
  type RunCounts,
  type RunEnd,
  type RunReason,
  startRun,
} from '../db/postgres/ledger.ts';
import { beginRebuild, raiseGeneration } from '../db/postgres/ledger-generations.ts';
import type { HourRange } from '../db/postgres/ledger-pages.ts';
import { lastScheduledRun, pruneRuns, schedulePause } from '../db/postgres/ledger-schedule.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { emptyQuality, type QualityReport, qualityReport } from '../pin/quality.ts';
import { sleep } from '../retry.ts';
import { CLEAN_LEASE, type HeldLease, holdLease } from './clean-lease.ts';
import { cleanArchive, type RunDeps, type RunPlan, type StepDone, type Tally } from './clean-run.ts';
import type { StoreWriter } from './clean-upsert.ts';

/** A run that was told to stop and hangs in a call is let go of after this: what it still does is idempotent. */
const STOP_GRACE_MS = 10_000;
/** A run someone asked for waits this long for another's to end: longer than the lease of a holder that died. */
const MANUAL_WAIT_MS = 45_000;
const MANUAL_POLL_MS = 250;

export type { RunReason };

/** What a run is to do beside bringing every store up to date. */
export type RunOrder = {
  /** Which try of its cron time it is. (Default: 1) */
  readonly attempt?: number;
  /** Cron times it stands for: after the first, up to and with the second. A second process that comes with the same is let go. */
  readonly since?: Date | null;
  readonly due?: Date | null;
  /** `backfill`: these hours anew, whether or not the stores have them. */
  readonly hours?: HourRange & { readonly from: Date; readonly to: Date };
  /** Names of the stores. (Default: all) */
  readonly stores?: readonly string[];
  /** Told of each object that went into a store. */
  readonly onStep?: (step: StepDone) => void;
};

export type RunSummary = RunCounts & {
  /** Of its row in the ledger; null when none could be written. */
  readonly id: number | null;
  readonly reason: RunReason;
  readonly attempt: number;
  /** `skipped`: another process is at it, or did it. `abandoned`: stopped by a drain or a lost lease; the next run goes on from there. */
  readonly status: RunEnd['status'] | 'skipped';
  readonly durationMs: number;
  readonly error: string | null;
  readonly quality: QualityReport;
};

export type BatchRunDeps = RunDeps & {
  readonly database: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly writers: readonly StoreWriter[];
  /** Of scheduled and manual runs. A backfill or rebuild takes as long as it takes. */
  readonly timeoutSeconds: number;
  readonly holder: string;
  readonly leaseTtlMs?: number;
  readonly keptDays: number;
  /** Aborts when the worker is to stop. */
  readonly draining: AbortSignal;
};

type Asked = RunOrder & { readonly reason: RunReason };
type Ending = Pick<RunEnd, 'status' | 'error'>;
type Counting = Pick<RunPlan, 'tally' | 'quality'>;

const STOPPED_BY_DRAIN = 'stopped by a shutdown; the next run goes on from there';
const STOPPED_BY_LEASE = 'another process took the lease; it goes on from there';
const SHUTTING_DOWN = { id: null, status: 'skipped', error: 'the program is shutting down' } as const;

const timedOut = (seconds: number) => `ended after CLEAN_TIMEOUT_SECONDS=${seconds}; the next run goes on from there`;

/** Runs that begin by themselves. */
export const isScheduled = (reason: RunReason) => reason === 'cron' || reason === 'retry' || reason === 'catch-up';
const isLong = (reason: RunReason) => reason === 'backfill' || reason === 'rebuild';

/** @param seconds null: none */
const timeLimit = (seconds: number | null) => {
  const controller = new AbortController();
  const timer = seconds === null ? undefined : setTimeout(() => controller.abort(), seconds * 1000);
  return { signal: controller.signal, clear: () => clearTimeout(timer) };
};

/** Resolves to null once `signal` has been aborted for {@link STOP_GRACE_MS}, unless `over` aborts before. */
const letGo = (signal: AbortSignal, over: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    const begin = async () => {
      await sleep(STOP_GRACE_MS, over);
      resolve(null);
    };
    if (signal.aborted) void begin();
    else signal.addEventListener('abort', begin, { signal: over });
  });

const takeLease = async (deps: BatchRunDeps, reason: RunReason): Promise<HeldLease | null> => {
  const { clock, draining } = deps;
  const holder = `${deps.holder}/${crypto.randomUUID().slice(0, 8)}`;
  const until = clock.now() + (isScheduled(reason) ? 0 : MANUAL_WAIT_MS);
  for (;;) {
    const lease = await holdLease(deps, holder, deps.leaseTtlMs);
    if (lease !== null || clock.now() >= until || draining.aborted) return lease;
    await sleep(MANUAL_POLL_MS, draining);
  }
};

/** Why a run that begins by itself is not wanted (any more), or null. Asked with the lease held, so that of many processes one runs. */
const whyNot = async ({ database }: BatchRunDeps, { reason, due, attempt = 1 }: Asked): Promise<string | null> => {
  if (!isScheduled(reason)) return null;
  const pause = await schedulePause(database, CLEAN_LEASE);
  if (pause?.paused) return `the schedule is paused by ${pause.changedBy} since ${pause.changedAt}`;
  if (due === undefined || due === null) return null;
  const last = await lastScheduledRun(database);
  if (last?.windowTo == null || Date.parse(last.windowTo) < due.getTime()) return null;
  const isSame = Date.parse(last.windowTo) === due.getTime() && last.attempt < attempt;
  return isSame ? null : `run ${last.id} stands for ${last.windowTo} already`;
};

const writersOf = ({ writers }: BatchRunDeps, stores: readonly string[] | undefined): readonly StoreWriter[] => {
  const unknown = stores?.find((name) => !writers.some((writer) => writer.name === name));
  if (unknown === undefined) return writers.filter(({ name }) => stores?.includes(name) ?? true);
  const known = writers.map(({ name }) => name).join(', ');
  throw new PinflowError('config', `there is no pin store "${unknown}" here: choose from ${known}.`);
};

/** What must be in the ledger before the first object: a rebuild and a backfill write above what stands there. */
const prepare = async ({ database }: BatchRunDeps, { reason }: Asked, writers: readonly StoreWriter[]) => {
  if (!isLong(reason)) return;
  const raise = reason === 'rebuild' ? beginRebuild : raiseGeneration;
  for (const { name } of writers) await raise(database, name);
};

/** @param floor of the runs before */
const planOf = async (
  deps: BatchRunDeps,
  floor: ReadonlyMap<number, number>,
  asked: Asked,
  run: Pick<RunPlan, 'runId' | 'signal' | 'tally' | 'quality'>,
): Promise<RunPlan> => {
  const writers = writersOf(deps, asked.stores);
  await prepare(deps, asked, writers);
  // A run someone asked for looks at the whole ledger: rows may have been taken out of it by hand.
  const from = isScheduled(asked.reason) ? floor : new Map<number, number>();
  const { hours = null, onStep = () => {} } = asked;
  return { ...run, writers, floor: from, hours, onStep };
};

/** One run after the other, each with the lease held and a row in the ledger. The answered function never rejects. */
export const createBatchRun = (deps: BatchRunDeps): ((reason: RunReason, order?: RunOrder) => Promise<RunSummary>) => {
  const { database, clock, logger, draining } = deps;
  let floor: ReadonlyMap<number, number> = new Map();

  const endingOf = async (runId: number, asked: Asked, lease: HeldLease, counting: Counting): Promise<Ending> => {
    const seconds = isLong(asked.reason) ? null : deps.timeoutSeconds;
    const limit = timeLimit(seconds);
    const over = new AbortController();
    const signal = AbortSignal.any([draining, lease.lost, limit.signal]);
    try {
      const plan = await planOf(deps, floor, asked, { runId, signal, ...counting });
      const cleaning = cleanArchive(deps, plan);
      // Let go of, it may still fail later: nobody waits for that.
      cleaning.catch(() => {});
      const outcome = await Promise.race([cleaning, letGo(signal, over.signal)]);
      if (lease.lost.aborted) return { status: 'abandoned', error: STOPPED_BY_LEASE };
      if (draining.aborted) return { status: 'abandoned', error: STOPPED_BY_DRAIN };
      if (outcome === null || limit.signal.aborted) return { status: 'failed', error: timedOut(deps.timeoutSeconds) };
      if (outcome.failures.length > 0) return { status: 'failed', error: outcome.failures.join(' ') };
      if (plan.hours === null && asked.stores === undefined) floor = outcome.frontier;
      return { status: 'done', error: null };
    } catch (error) {
      return { status: 'failed', error: messageOf(error) };
    } finally {
      limit.clear();
      over.abort();
    }
  };

  const recorded = async (asked: Asked, lease: HeldLease, counting: Counting) => {
    const dead = await abandonRuns(database);
    if (dead.length > 0) logger.warn({ runs: dead }, 'batch runs were left by their process; taken up');
    const { reason, attempt, hours, since, due } = asked;
    const window = { windowFrom: hours?.from ?? since, windowTo: hours?.to ?? due };
    const id = await startRun(database, reason, { attempt, ...window, holder: deps.holder });
    deps.reached('run started');
    const ending = await endingOf(id, asked, lease, counting);
    // Not the run's own signal: this is to be written also when the run was stopped.
    const end = { ...counting.tally, ...ending, quality: qualityReport(counting.quality) };
    const finishing = async () => {
      await finishRun(database, id, end);
      await pruneRuns(database, deps.keptDays);
    };
    await deps
      .retrying('postgres', finishing, lease.lost)
      .catch((error: unknown) =>
        logger.error({ run: id, error: messageOf(error) }, 'the end of a batch run could not be recorded'),
      );
    return { id, ...ending };
  };

  const attempt = async (asked: Asked, counting: Counting): Promise<Pick<RunSummary, 'id' | 'status' | 'error'>> => {
    try {
      const lease = await takeLease(deps, asked.reason);
      if (lease === null) {
        const holder = (await leaseHolder(database, CLEAN_LEASE)) ?? 'another process';
        return { id: null, status: 'skipped', error: `${holder} is cleaning now` };
      }
      try {
        const unwanted = await whyNot(deps, asked);
        if (unwanted !== null) return { id: null, status: 'skipped', error: unwanted };
        return await recorded(asked, lease, counting);
      } finally {
        await lease.release();
      }
    } catch (error) {
      return { id: null, status: 'failed', error: messageOf(error) };
    }
  };

  return async (reason, order = {}) => {
    const startedAt = clock.now();
    const tally: Tally = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };
    const counting = { tally, quality: emptyQuality() };
    const ending = draining.aborted ? SHUTTING_DOWN : await attempt({ ...order, reason }, counting);
    const durationMs = clock.now() - startedAt;
    const quality = qualityReport(counting.quality);
    return { ...tally, ...ending, reason, attempt: order.attempt ?? 1, durationMs, quality };
  };
};
