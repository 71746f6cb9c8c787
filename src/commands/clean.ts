import { hostname } from 'node:os';
import { systemClock } from '../clock.ts';
import { deadLetterSender } from '../log/dlq.ts';
import { createMetrics } from '../metrics.ts';
import { createCleaner } from '../workers/cleaner.ts';
import { type Format, printObjects, withEngines } from './context.ts';

/** One batch run in this process, beside a running program or without one: the lease keeps them apart. */
export const clean = ({ format }: { readonly format: Format }): Promise<number> =>
  withEngines('clean', async ({ config, store, pinStores, database, deadLetters }, { logger }) => {
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
      timeoutSeconds: config.CLEAN_TIMEOUT_SECONDS,
      holder: `${hostname()}:${process.pid}:clean`,
    });
    const summary = await cleaner.runNow('manual');
    printObjects([summary], format, []);
    return summary.status === 'done' ? 0 : 1;
  });
