import { readFile } from 'node:fs/promises';
import { chosenLetters, dropLetters, retryLetters } from '../dead-letters.ts';
import type { Engines } from '../engines.ts';
import { PinflowError } from '../errors.ts';
import { openLetters } from '../log/dlq.ts';
import { type Format, printObjects, say, withEngines } from './context.ts';

type Choice = { readonly all?: boolean; readonly with?: string };

const COLUMNS = ['id', 'stage', 'at', 'attempts', 'reason'];

export const listLetters = ({ limit, format }: { readonly limit: number; readonly format: Format }): Promise<number> =>
  withEngines('dlq', async ({ deadLetters }) => {
    const open = await openLetters(deadLetters);
    const rows = [...open]
      .slice(0, limit)
      .map(([id, l]) => ({ id, stage: l.stage, at: l.at, attempts: l.attempts, reason: l.reason }));
    printObjects(rows, format, COLUMNS);
    if (open.size > rows.length) say(`${open.size - rows.length} more; --limit raises that`);
    return 0;
  });

const chosen = ({ deadLetters }: Engines, ids: readonly string[], all: boolean | undefined) => {
  if (ids.length === 0 && all !== true)
    throw new PinflowError('config', 'say which: ids as `dlq list` shows them, or --all');
  return chosenLetters({ deadLetters }, all === true ? 'all' : ids);
};

export const showLetter = (id: string): Promise<number> =>
  withEngines('dlq', async (engines) => {
    const letters = await chosen(engines, [id], false);
    process.stdout.write(`${JSON.stringify(letters.get(id), null, 2)}\n`);
    return 0;
  });

export const retry = (ids: readonly string[], options: Choice): Promise<number> =>
  withEngines('dlq', async (engines) => {
    if (options.with !== undefined && (ids.length !== 1 || options.all === true)) {
      throw new PinflowError('config', '--with replaces one record: give exactly one id');
    }
    const letters = await chosen(engines, ids, options.all);
    const replacement = options.with === undefined ? null : new Uint8Array(await readFile(options.with));
    const { records, objects } = await retryLetters(engines, letters, replacement);
    say(`${records} records sent again, ${objects} objects left to the next batch run`);
    return 0;
  });

export const drop = (ids: readonly string[], options: Choice): Promise<number> =>
  withEngines('dlq', async (engines) => {
    const letters = await chosen(engines, ids, options.all);
    await dropLetters(engines, letters);
    say(`${letters.size} letters dropped`);
    return 0;
  });
