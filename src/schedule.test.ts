import { afterEach, describe, expect, test } from 'bun:test';
import { isPinflowError, messageOf } from './errors.ts';
import { sleep } from './retry.ts';
import { createSchedule, type Schedule } from './schedule.ts';

const EVERY_SECOND = '* * * * * *';
const DEADLINE_MS = 20_000;
const TEST_MS = 60_000;

const open: Schedule[] = [];
afterEach(() => {
  for (const schedule of open.splice(0)) schedule.stop();
});

const logged: string[] = [];
const logger = {
  debug: (_: unknown, message?: string) => void logged.push(`debug ${message}`),
  error: (_: unknown, message?: string) => void logged.push(`error ${message}`),
};

const schedule = (cron: string, timezone = 'UTC', run: () => Promise<unknown> = async () => {}) => {
  const made = createSchedule({ cron, timezone, run, logger });
  open.push(made);
  return made;
};

const until = async (condition: () => boolean) => {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true in time');
    await sleep(20);
  }
};

const configError = (make: () => unknown): string => {
  try {
    make();
  } catch (error) {
    expect(isPinflowError(error, 'config')).toBe(true);
    return messageOf(error);
  }
  throw new Error('it was accepted');
};

describe('what is accepted', () => {
  test.each(['*/1 * * * *', '0 3 * * 1-5', '*/10 * * * * *', '@hourly', '  */5 * * * *  '])('%j', (cron) => {
    expect(schedule(cron).next()).toBeInstanceOf(Date);
  });

  test.each(['off', 'OFF', ' off '])('%j is never due', (cron) => {
    const made = schedule(cron);
    made.start();
    expect(made.next()).toBeNull();
  });

  test('the last time before a moment is known, also where nothing ran', () => {
    const noon = schedule('0 12 * * *', 'Europe/Berlin');
    const previous = (moment: string) => noon.previous(new Date(moment))?.toISOString();
    expect(previous('2026-11-23T11:00:00.001Z')).toBe('2026-11-23T11:00:00.000Z');
    expect(previous('2026-11-23T11:00:00.000Z')).toBe('2026-11-22T11:00:00.000Z');
    // The day after the clocks went back.
    expect(previous('2026-10-25T10:59:59Z')).toBe('2026-10-24T10:00:00.000Z');
    expect(previous('2026-10-25T11:00:01Z')).toBe('2026-10-25T11:00:00.000Z');
    expect(schedule('off').previous(new Date())).toBeNull();
  });

  test('the time zone decides the hour', () => {
    const hour = (timezone: string) => schedule('0 12 * * *', timezone).next()?.getUTCHours();
    expect(hour('UTC')).toBe(12);
    expect(hour('Asia/Tokyo')).toBe(3);
  });
});

describe('what is refused, by name', () => {
  test.each(['', 'every minute', '* * * *', '61 * * * *', '0 0 31 2 *', '2099-01-01T00:00:00', '* * * * * * 2099'])(
    'CLEAN_CRON %j',
    (cron) => {
      const message = configError(() => schedule(cron));
      expect(message).toStartWith(`CLEAN_CRON=${JSON.stringify(cron)}`);
      expect(message).toContain('or off');
    },
  );

  test.each(['', 'Mars/Olympus', 'UTC+25'])('CLEAN_TIMEZONE %j, also when the schedule is off', (timezone) => {
    expect(configError(() => schedule('off', timezone))).toStartWith(`CLEAN_TIMEZONE=${JSON.stringify(timezone)}`);
  });
});

describe('running', () => {
  test(
    'runs again and again, and not after stop',
    async () => {
      let runs = 0;
      const made = schedule(EVERY_SECOND, 'UTC', async () => void runs++);
      made.start();
      await until(() => runs >= 2);
      made.stop();
      made.stop();
      const atStop = runs;
      await sleep(1500);
      expect(runs).toBe(atStop);
      expect(made.next()).toBeNull();
    },
    TEST_MS,
  );

  test(
    'a run is told the time it stands for, and waits out its jitter after it; stopped meanwhile, it does not run',
    async () => {
      const runs: { readonly due: Date; readonly late: number }[] = [];
      const run = async (due: Date) => void runs.push({ due, late: Date.now() - due.getTime() });
      const made = createSchedule({ cron: EVERY_SECOND, timezone: 'UTC', jitterSeconds: 0.5, run, logger });
      open.push(made);
      made.start();
      await until(() => runs.length >= 4);
      for (const { due } of runs) expect(due.getTime() % 1000).toBe(0);
      expect(new Set(runs.map(({ due }) => due.getTime())).size).toBe(runs.length);
      expect(new Set(runs.map(({ late }) => Math.round(late / 10))).size).toBeGreaterThan(1);

      let began = false;
      const slow = createSchedule({
        cron: EVERY_SECOND,
        timezone: 'UTC',
        jitterSeconds: 3600,
        run: async () => {
          began = true;
        },
        logger,
      });
      slow.start();
      await sleep(1100);
      slow.stop();
      await sleep(50);
      expect(began).toBe(false);
    },
    TEST_MS,
  );

  test('nothing runs before start', async () => {
    let runs = 0;
    schedule(EVERY_SECOND, 'UTC', async () => void runs++);
    await sleep(1500);
    expect(runs).toBe(0);
  });

  test(
    'runs never overlap, and what was missed is not made up for',
    async () => {
      const starts: number[] = [];
      let atWork = 0;
      let most = 0;
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const made = schedule(EVERY_SECOND, 'UTC', async () => {
        starts.push(Date.now());
        most = Math.max(most, ++atWork);
        if (starts.length === 1) await held;
        atWork--;
      });
      logged.length = 0;
      made.start();
      await until(() => logged.filter((line) => line.startsWith('debug a run was due')).length >= 2);
      expect(starts).toHaveLength(1);
      const releasedAt = Date.now();
      release();
      await until(() => starts.length >= 3);
      expect(most).toBe(1);
      // Two or more were missed: made up for, they would have come at once.
      const [, , third] = starts;
      expect(Math.floor((third ?? 0) / 1000)).toBeGreaterThan(Math.floor(releasedAt / 1000));
    },
    TEST_MS,
  );

  test(
    'a run that throws is logged and the next one comes',
    async () => {
      let runs = 0;
      logged.length = 0;
      const made = schedule(EVERY_SECOND, 'UTC', async () => {
        runs++;
        throw new Error('no');
      });
      made.start();
      await until(() => runs >= 2);
      expect(logged).toContain('error a scheduled run failed');
    },
    TEST_MS,
  );
});
