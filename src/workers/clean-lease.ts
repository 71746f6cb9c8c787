import type { Clock } from '../clock.ts';
import { acquireLease, type LeaseRequest, releaseLease, renewLease } from '../db/postgres/ledger.ts';
import type { Database } from '../db/postgres/open.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { sleep } from '../retry.ts';

export const CLEAN_LEASE = 'clean';
/** How long a dead holder keeps others out: several renewals may fail before the lease is given up. */
const LEASE_TTL_MS = 30_000;
/** Renewals in the life of a lease. */
const RENEWALS = 3;

export type HeldLease = {
  /** Aborts when another has the lease, or when it could not be renewed in time: stop what it guards. */
  readonly lost: AbortSignal;
  readonly release: () => Promise<void>;
};

export type LeaseDeps = {
  readonly database: Database;
  readonly clock: Clock;
  readonly logger: Logger;
};

/** Renews until `signal` aborts; resolves to true when the lease was lost before that. */
const keepRenewing = async ({ database, clock, logger }: LeaseDeps, request: LeaseRequest, signal: AbortSignal) => {
  let validUntil = clock.now() + request.ttlMs;
  for (;;) {
    await sleep(request.ttlMs / RENEWALS, signal);
    if (signal.aborted) return false;
    const askedAt = clock.now();
    try {
      if (!(await renewLease(database, request))) return true;
      validUntil = askedAt + request.ttlMs;
    } catch (error) {
      logger.warn({ error: messageOf(error) }, 'the lease of the batch run could not be renewed; trying again');
      if (clock.now() >= validUntil) return true;
    }
  }
};

/**
 * Takes the lease of the batch runs and keeps renewing it.
 * @param holder unique to this attempt
 * @param ttlMs (Default: 30 seconds)
 * @returns null when another holds it
 */
export const holdLease = async (deps: LeaseDeps, holder: string, ttlMs = LEASE_TTL_MS): Promise<HeldLease | null> => {
  const request = { name: CLEAN_LEASE, holder, ttlMs };
  if (!(await acquireLease(deps.database, request))) return null;
  const [lost, released] = [new AbortController(), new AbortController()];
  void keepRenewing(deps, request, released.signal).then((wasLost) => {
    if (wasLost) lost.abort();
  });
  return {
    lost: lost.signal,
    release: async () => {
      released.abort();
      // A renewal still on its way finds no row of this holder afterwards, or is undone by its expiry.
      await releaseLease(deps.database, request).catch((error: unknown) =>
        deps.logger.warn({ error: messageOf(error) }, 'the lease of the batch run could not be released; it expires'),
      );
    },
  };
};
