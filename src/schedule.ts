import { Cron } from 'croner';
import { messageOf, PinflowError } from './errors.ts';
import type { Logger } from './logger.ts';

/** When something runs: a cron expression in a time zone. No two runs overlap, and what was missed is not made up for. */
export type Schedule = {
  /** The next time `run` is due, or null when the schedule is off or stopped. */
  readonly next: () => Date | null;
  readonly start: () => void;
  /** No run starts after this; one under way is not waited for. Final: a stopped schedule does not start again. Idempotent. */
  readonly stop: () => void;
};

export type ScheduleOptions = {
  /** Five fields, or six with seconds first, or a nickname such as `@hourly`; `off` for never. */
  readonly cron: string;
  /** IANA name, such as `Europe/Berlin`. */
  readonly timezone: string;
  /** Called when due. A time that comes while it is still at work is let go. A throw is logged; the schedule goes on. */
  readonly run: () => Promise<unknown>;
  readonly logger: Pick<Logger, 'error' | 'debug'>;
};

const OFF: Schedule = { next: () => null, start: () => {}, stop: () => {} };

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

const badCron = (cron: string, why: string, cause?: unknown) =>
  new PinflowError(
    'config',
    `CLEAN_CRON=${JSON.stringify(cron)} is no usable cron expression (${why}): use five fields such as "*/5 * * * *", or off.`,
    { cause },
  );

/** @throws PinflowError `config` naming CLEAN_CRON or CLEAN_TIMEZONE, and what it should be */
export const createSchedule = ({ cron, timezone, run, logger }: ScheduleOptions): Schedule => {
  checkTimezone(timezone);
  const expression = cron.trim();
  if (expression.toLowerCase() === 'off') return OFF;
  // The library would take a date too, and run once.
  if (expression.includes(':')) throw badCron(cron, 'it looks like a date');
  const job = parse(expression, timezone, {
    onOverlap: () => logger.debug({ cron }, 'a run was due while the last one is still at work: let go'),
    onError: (error) => logger.error({ cron, error: messageOf(error) }, 'a scheduled run failed'),
  });
  if (job.nextRun() === null) throw badCron(cron, 'it never comes due');
  return {
    next: () => job.nextRun(),
    start: () => void job.schedule(run as () => Promise<void>),
    stop: () => job.stop(),
  };
};

type Callbacks = { readonly onOverlap: () => void; readonly onError: (error: unknown) => void };

const parse = (expression: string, timezone: string, { onOverlap, onError }: Callbacks): Cron => {
  try {
    return new Cron(expression, { timezone, mode: '5-or-6-parts', protect: onOverlap, catch: onError });
  } catch (cause) {
    throw badCron(expression, messageOf(cause).replace(/^CronPattern: /, ''), cause);
  }
};
