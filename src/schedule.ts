import { Cron } from 'croner';
import { messageOf, PinflowError } from './errors.ts';
import type { Logger } from './logger.ts';
import { sleep } from './retry.ts';

/** When something runs: a cron expression in a time zone. No two runs overlap, and what was missed is not made up for by itself. */
export type Schedule = {
  /** The next time `run` is due, or null when the schedule is off or stopped. */
  readonly next: () => Date | null;
  /** The last time before `moment` that was due, whether or not anything ran then; null when off. */
  readonly previous: (moment: Date) => Date | null;
  readonly start: () => void;
  /** No run starts after this; one under way is not waited for. Final: a stopped schedule does not start again. Idempotent. */
  readonly stop: () => void;
};

export type ScheduleOptions = {
  /** Five fields, or six with seconds first, or a nickname such as `@hourly`; `off` for never. */
  readonly cron: string;
  /** IANA name, such as `Europe/Berlin`. */
  readonly timezone: string;
  /** Where the expression comes from, for messages. (Default: CLEAN_CRON) */
  readonly setting?: 'CLEAN_CRON' | 'RECONCILE_CRON';
  /** Each run waits a random time up to this before it begins, seconds, so that many programs do not begin at once. (Default: 0) */
  readonly jitterSeconds?: number;
  /**
   * Called when due, with the time it stands for. A time that comes while it is still at work is let go. A throw is logged;
   * the schedule goes on.
   */
  readonly run: (due: Date) => Promise<unknown>;
  readonly logger: Pick<Logger, 'error' | 'debug'>;
};

const OFF: Schedule = { next: () => null, previous: () => null, start: () => {}, stop: () => {} };

const checkTimezone = (timezone: string): void => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: timezone });
  } catch (cause) {
    throw new PinflowError(
      'config',
      `CLEAN_TIMEZONE=${JSON.stringify(timezone)} is no time zone: use an IANA name such as UTC or Europe/Berlin.`,
      { cause },
    );
  }
};

const badCron = (setting: string, cron: string, why: string, cause?: unknown) =>
  new PinflowError(
    'config',
    `${setting}=${JSON.stringify(cron)} is no usable cron expression (${why}): use five fields such as "*/5 * * * *", or off.`,
    { cause },
  );

/** The library gives times strictly before the reference, and a timer fires in the millisecond it is due. */
const lastBefore = (job: Cron, moment: Date): Date | null => job.previousRuns(1, moment)[0] ?? null;

/** @throws PinflowError `config` naming the setting or CLEAN_TIMEZONE, and what it should be */
export const createSchedule = (options: ScheduleOptions): Schedule => {
  const { cron, timezone, setting = 'CLEAN_CRON', jitterSeconds = 0, run, logger } = options;
  checkTimezone(timezone);
  const expression = cron.trim();
  if (expression.toLowerCase() === 'off') return OFF;
  // The library would take a date too, and run once.
  if (expression.includes(':')) throw badCron(setting, cron, 'it looks like a date');
  const job = parse(setting, expression, timezone, {
    onOverlap: () => logger.debug({ cron }, 'a run was due while the last one is still at work: let go'),
    onError: (error) => logger.error({ cron, error: messageOf(error) }, 'a scheduled run failed'),
  });
  if (job.nextRun() === null) throw badCron(setting, cron, 'it never comes due');
  const stopped = new AbortController();
  const runWhenDue = async () => {
    const due = lastBefore(job, new Date(Date.now() + 1)) ?? new Date();
    await sleep(Math.random() * jitterSeconds * 1000, stopped.signal);
    if (!stopped.signal.aborted) await run(due);
  };
  return {
    next: () => job.nextRun(),
    previous: (moment) => lastBefore(job, moment),
    start: () => void job.schedule(runWhenDue),
    stop: () => {
      stopped.abort();
      job.stop();
    },
  };
};

type Callbacks = { readonly onOverlap: () => void; readonly onError: (error: unknown) => void };

const parse = (setting: string, expression: string, timezone: string, { onOverlap, onError }: Callbacks): Cron => {
  try {
    return new Cron(expression, { timezone, mode: '5-or-6-parts', protect: onOverlap, catch: onError });
  } catch (cause) {
    throw badCron(setting, expression, messageOf(cause).replace(/^CronPattern: /, ''), cause);
  }
};
