import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { letterKey } from '../log/dlq.ts';
import type { RunReason } from './batch-run.ts';
import { connectTo, openWorkshop } from './clean-fixture.ts';

/**
 * The process that cleaner-crash.test.ts kills: one batch run over an existing workshop, ended by SIGKILL when it has
 * reached a point for the nth time. Dead letters survive it in `letters`, one id a line.
 */
export const LETTERS = 'letters';

export type CrashOrder = {
  readonly url: string;
  readonly dir: string;
  readonly point: string;
  readonly times: number;
  /** (Default: cron) */
  readonly reason?: RunReason;
};

if (import.meta.main) {
  const { url, dir, point, times, reason = 'cron' } = JSON.parse(process.argv[2] ?? '') as CrashOrder;
  const shop = await openWorkshop(connectTo(url), dir);
  let left = times;
  const cleaner = shop.cleaner({
    holder: 'to be killed',
    sendDeadLetters: async (letters) => {
      for (const letter of letters) appendFileSync(join(dir, LETTERS), `${letterKey(letter)}\n`);
    },
    reached: (now) => {
      if (now === point && --left === 0) process.kill(process.pid, 'SIGKILL');
    },
  });
  await cleaner.runNow(reason);
  process.exit(0);
}
