import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import * as childFile from './reconcile-child.ts' with { type: 'file' };
import type { ReconcileAnswer } from './reconcile-child.ts';
import { createSchedule, type Schedule } from './schedule.ts';

export type ReconcileScheduleDeps = {
  /** As RECONCILE_CRON and CLEAN_TIMEZONE. */
  readonly cron: string;
  readonly timezone: string;
  readonly metrics: Pick<Metrics, 'reconcileRuns' | 'reconcileLastRun' | 'reconcileDifferences'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** (Default: in a process of its own, see reconcile-child.ts) */
  readonly ask?: (signal: AbortSignal) => Promise<ReconcileAnswer>;
};

const CHILD = (childFile as unknown as { readonly default: string }).default;

/** It inherits the environment, so it has the same settings. */
const askChild = async (signal: AbortSignal): Promise<ReconcileAnswer> => {
  const child = Bun.spawn([process.execPath, CHILD], { stdin: 'ignore', stdout: 'pipe', stderr: 'ignore', signal });
  const [text, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  return code === 0 ? (JSON.parse(text) as ReconcileAnswer) : { error: `its process ended with ${code}` };
};

/**
 * Runs `reconcile` at the times of RECONCILE_CRON and shows its result as metrics. `stop` ends one under way.
 * @throws PinflowError `config` naming RECONCILE_CRON or CLEAN_TIMEZONE
 */
export const createReconcileSchedule = (deps: ReconcileScheduleDeps): Pick<Schedule, 'start' | 'stop'> => {
  const { cron, timezone, metrics, clock, logger, ask = askChild } = deps;
  const stopped = new AbortController();

  const run = async () => {
    const result = await ask(stopped.signal);
    if (stopped.signal.aborted) return;
    if ('error' in result) {
      metrics.reconcileRuns.inc({ outcome: 'failed' });
      logger.warn({ error: result.error }, 'the scheduled reconcile could not be done');
      return;
    }
    const { equal, differencesByPlace, chainBreaks, notYetArchived, examples } = result;
    metrics.reconcileRuns.inc({ outcome: equal ? 'equal' : 'different' });
    metrics.reconcileLastRun.set(clock.now() / 1000);
    const byPlace = { archive: chainBreaks.length + notYetArchived, ...differencesByPlace };
    for (const [place, count] of Object.entries(byPlace)) metrics.reconcileDifferences.set({ place }, count);
    if (equal) logger.info(result.counts, 'reconcile: every place holds the same pins');
    else
      logger.warn({ byPlace, examples: examples.slice(0, 3) }, 'reconcile: the places differ; `reconcile` shows more');
  };

  const schedule = createSchedule({ cron, timezone, setting: 'RECONCILE_CRON', run, logger });
  return {
    start: schedule.start,
    stop: () => {
      schedule.stop();
      stopped.abort();
    },
  };
};
