import type { Clock } from '../clock.ts';
import type { Database } from '../db/postgres/open.ts';
import { type RemovableTable, removeOlder } from '../db/postgres/speed-removal.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { sleep } from '../retry.ts';

/** Days that rows of the speed view are kept; 0 keeps them for ever. */
export type KeptDays = { readonly pins: number; readonly windows: number };

export type RemovalDeps = {
  readonly database: Database;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly kept: KeptDays;
  /** Between two rounds, milliseconds. (Default: a minute.) */
  readonly everyMs?: number;
};

/** Between two rounds: rows are removed this much late at most, and a round that finds nothing reads one index page. Milliseconds. */
const EVERY_MS = 60_000;
const DAY_MICROS = 86_400_000_000;

/** One round. A failure is told and left to the next round: removal may be late, the stream may not. */
const removeOnce = async ({ database, metrics, logger, clock, kept }: RemovalDeps, signal: AbortSignal) => {
  const policies: readonly (readonly [RemovableTable, number])[] = [
    ['pins', kept.pins],
    ['pin_error_windows', kept.windows],
  ];
  for (const [table, days] of policies) {
    if (days === 0 || signal.aborted) continue;
    try {
      const rows = await removeOlder(database, table, clock.now() * 1000 - days * DAY_MICROS, signal);
      if (rows === 0) continue;
      metrics.streamRemovedRows.inc({ table }, rows);
      logger.info({ table, rows, days }, 'removed old rows from the speed view');
    } catch (error) {
      logger.warn({ table, reason: messageOf(error) }, 'old rows of the speed view stay until the next round');
    }
  }
};

/** Removes old rows of the speed view, round after round, until `signal` aborts. */
export const keepRemoving = async (deps: RemovalDeps, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    await removeOnce(deps, signal);
    await sleep(deps.everyMs ?? EVERY_MS, signal);
  }
};
