import { reconcile } from '../reconcile.ts';
import { sleep } from '../retry.ts';
import { type Format, printObjects, say, withEngines } from './context.ts';

type Options = { readonly wait: number; readonly format: Format };

/** Between two looks with --wait, milliseconds: a look reads every place whole. */
const LOOK_AGAIN_MS = 1000;

export const reconcileNow = ({ wait, format }: Options): Promise<number> =>
  withEngines('reconcile', async (engines) => {
    const deadline = Date.now() + wait * 1000;
    let result = await reconcile(engines);
    while (!result.equal && Date.now() < deadline) {
      await sleep(LOOK_AGAIN_MS);
      result = await reconcile(engines);
    }
    if (format === 'json') process.stdout.write(`${JSON.stringify(result)}\n`);
    else {
      printObjects(
        Object.entries(result.counts).map(([place, ids]) => ({ place, ids })),
        format,
        ['place', 'ids'],
      );
      if (result.examples.length > 0) printObjects(result.examples, format, []);
      for (const line of result.chainBreaks) say(line);
      if (result.notYetArchived > 0) say(`${result.notYetArchived} records of the log are not archived yet`);
      if (result.rejects > 0) say(`${result.rejects} lines of the archive cannot become a pin: see \`dlq list\``);
      say(result.equal ? 'equal' : `not equal: ${result.differences} differences`);
    }
    return result.equal ? 0 : 1;
  });
