import { readConfig } from './config.ts';
import { openEngines } from './engines.ts';
import { messageOf } from './errors.ts';
import { createLogger } from './logger.ts';
import { type Reconciliation, reconcile } from './reconcile.ts';
import { sleep } from './retry.ts';

/**
 * The process behind RECONCILE_CRON: one comparison, one line of JSON on stdout. Sorting millions of ids keeps a thread busy for
 * minutes, which neither the edge nor a worker that has to show life can bear.
 */
export type ReconcileAnswer = Reconciliation | { readonly error: string };

/** What is under way is a difference for a moment: it is looked at again for so long, milliseconds. */
const WAIT_MS = 120_000;
const LOOK_AGAIN_MS = 10_000;

const answer = async (): Promise<ReconcileAnswer> => {
  try {
    const engines = await openEngines(readConfig(), createLogger('silent', 'reconcile'), 'reconcile');
    try {
      const deadline = Date.now() + WAIT_MS;
      for (;;) {
        const result = await reconcile(engines);
        if (result.equal || Date.now() >= deadline) return result;
        await sleep(LOOK_AGAIN_MS);
      }
    } finally {
      await engines.close();
    }
  } catch (error) {
    return { error: messageOf(error) };
  }
};

process.stdout.write(JSON.stringify(await answer()));
