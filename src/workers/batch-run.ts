import type { Clock } from '../clock.ts';
import { abandonRuns, finishRun, leaseHolder, type RunCounts, type RunEnd, startRun } from '../db/postgres/ledger.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { sleep } from '../retry.ts';
import { CLEAN_LEASE, type HeldLease, holdLease } from './clean-lease.ts';
import { cleanArchive, type RunDeps, type Tally } from './clean-run.ts';

/** A run that was told to stop and hangs in a call is let go of after this: what it still does is idempotent. */
const STOP_GRACE_MS = 10_000;
/** A run someone asked for waits this long for another's to end: longer than the lease of a holder that died. */
const MANUAL_WAIT_MS = 45_000;
const MANUAL_POLL_MS = 250;

export type RunReason = 'cron' | 'manual';

export type RunSummary = RunCounts & {
  /** Of its row in the ledger; null when none could be written. */
  readonly id: number | null;
  readonly reason: RunReason;
  /** `skipped`: another process is at it. `abandoned`: stopped by a drain or a lost lease; the next run goes on from there. */
  readonly status: RunEnd['status'] | 'skipped';
  readonly durationMs: number;
  readonly error: string | null;
};

export type BatchRunDeps = RunDeps & {
  readonly database: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly timeoutSeconds: number;
  readonly holder: string;
  readonly leaseTtlMs?: number;
  /** Aborts when the worker is to stop. */
  readonly draining: AbortSignal;
};

type Ending = Pick<RunEnd, 'status' | 'error'>;

const STOPPED_BY_DRAIN = 'stopped by a shutdown; the next run goes on from there';
const STOPPED_BY_LEASE = 'another process took the lease; it goes on from there';
const SHUTTING_DOWN = { id: null, status: 'skipped', error: 'the program is shutting down' } as const;

const timedOut = (seconds: number) => `ended after CLEAN_TIMEOUT_SECONDS=${seconds}; the next run goes on from there`;

const timeLimit = (seconds: number) => {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), seconds * 1000);
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
  const until = clock.now() + (reason === 'manual' ? MANUAL_WAIT_MS : 0);
  for (;;) {
    const lease = await holdLease(deps, holder, deps.leaseTtlMs);
    if (lease !== null || clock.now() >= until || draining.aborted) return lease;
    await sleep(MANUAL_POLL_MS, draining);
  }
};

/** One run after the other, each with the lease held and a row in the ledger. The answered function never rejects. */
export const createBatchRun = (deps: BatchRunDeps): ((reason: RunReason) => Promise<RunSummary>) => {
  const { database, clock, logger, draining, timeoutSeconds } = deps;
  let floor: ReadonlyMap<number, number> = new Map();

  const endingOf = async (runId: number, reason: RunReason, lease: HeldLease, tally: Tally): Promise<Ending> => {
    const limit = timeLimit(timeoutSeconds);
    const over = new AbortController();
    const signal = AbortSignal.any([draining, lease.lost, limit.signal]);
    try {
      // A run someone asked for looks at the whole ledger: rows may have been taken out of it by hand.
      const plan = { runId, floor: reason === 'manual' ? new Map<number, number>() : floor, signal, tally };
      const cleaning = cleanArchive(deps, plan);
      // Let go of, it may still fail later: nobody waits for that.
      cleaning.catch(() => {});
      const outcome = await Promise.race([cleaning, letGo(signal, over.signal)]);
      if (lease.lost.aborted) return { status: 'abandoned', error: STOPPED_BY_LEASE };
      if (draining.aborted) return { status: 'abandoned', error: STOPPED_BY_DRAIN };
      if (outcome === null || limit.signal.aborted) return { status: 'failed', error: timedOut(timeoutSeconds) };
      if (outcome.failures.length > 0) return { status: 'failed', error: outcome.failures.join(' ') };
      floor = outcome.frontier;
      return { status: 'done', error: null };
    } catch (error) {
      return { status: 'failed', error: messageOf(error) };
    } finally {
      limit.clear();
      over.abort();
    }
  };

  const recorded = async (reason: RunReason, lease: HeldLease, tally: Tally) => {
    const dead = await abandonRuns(database);
    if (dead.length > 0) logger.warn({ runs: dead }, 'batch runs were left by their process; taken up');
    const id = await startRun(database, reason);
    deps.reached('run started');
    const ending = await endingOf(id, reason, lease, tally);
    // Not the run's own signal: this is to be written also when the run was stopped.
    const finishing = () => finishRun(database, id, { ...tally, ...ending });
    await deps
      .retrying('postgres', finishing, lease.lost)
      .catch((error: unknown) =>
        logger.error({ run: id, error: messageOf(error) }, 'the end of a batch run could not be recorded'),
      );
    return { id, ...ending };
  };

  const attempt = async (reason: RunReason, tally: Tally): Promise<Pick<RunSummary, 'id' | 'status' | 'error'>> => {
    try {
      const lease = await takeLease(deps, reason);
      if (lease === null) {
        const holder = (await leaseHolder(database, CLEAN_LEASE)) ?? 'another process';
        return { id: null, status: 'skipped', error: `${holder} is cleaning now` };
      }
      try {
        return await recorded(reason, lease, tally);
      } finally {
        await lease.release();
      }
    } catch (error) {
      return { id: null, status: 'failed', error: messageOf(error) };
    }
  };

  return async (reason) => {
    const startedAt = clock.now();
    const tally: Tally = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };
    const ending = draining.aborted ? SHUTTING_DOWN : await attempt(reason, tally);
    return { ...tally, ...ending, reason, durationMs: clock.now() - startedAt };
  };
};
