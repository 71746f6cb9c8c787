import { readFile } from 'node:fs/promises';
import { forgetRejected } from '../db/postgres/ledger.ts';
import type { Engines } from '../engines.ts';
import { PinflowError } from '../errors.ts';
import { type DeadLetter, letterBytes, openLetters, resolveLetters } from '../log/dlq.ts';
import { decodeRecord } from '../pin/decode.ts';
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

const chosen = async ({ deadLetters }: Engines, ids: readonly string[], all: boolean | undefined) => {
  if (ids.length === 0 && all !== true)
    throw new PinflowError('config', 'say which: ids as `dlq list` shows them, or --all');
  const open = await openLetters(deadLetters);
  const unknown = ids.filter((id) => !open.has(id));
  if (unknown.length > 0)
    throw new PinflowError('not_found', `no open letter has the id ${unknown.join(', ')}: see \`dlq list\``);
  return all === true ? open : new Map(ids.map((id) => [id, open.get(id) as DeadLetter]));
};

export const showLetter = (id: string): Promise<number> =>
  withEngines('dlq', async (engines) => {
    const letters = await chosen(engines, [id], false);
    process.stdout.write(`${JSON.stringify(letters.get(id), null, 2)}\n`);
    return 0;
  });

/** One record a position, however many stages complained of it; the same id posted again is an update. */
const resend = async ({ log, config }: Engines, letters: readonly DeadLetter[], replacement: Uint8Array | null) => {
  const records = new Map<string, { key: string; value: Uint8Array }>();
  for (const letter of letters) {
    if (letter.position === null) continue;
    const value = replacement ?? letterBytes(letter);
    const decoded = decodeRecord(value, Date.now());
    const place = `${letter.position.partition}/${letter.position.offset}`;
    if (!decoded.ok)
      throw new PinflowError(
        'invalid_pin',
        `the record of ${config.PIN_TOPIC} ${place} is still no pin: ${decoded.reject.reason}. Give a right one by --with FILE, or drop it.`,
      );
    records.set(place, { key: decoded.value.unique_id, value });
  }
  if (records.size > 0) await log.append([...records.values()]);
  return records.size;
};

export const retryLetters = (ids: readonly string[], options: Choice): Promise<number> =>
  withEngines('dlq', async (engines) => {
    if (options.with !== undefined && (ids.length !== 1 || options.all === true)) {
      throw new PinflowError('config', '--with replaces one record: give exactly one id');
    }
    const letters = await chosen(engines, ids, options.all);
    const replacement = options.with === undefined ? null : new Uint8Array(await readFile(options.with));
    const sent = await resend(engines, [...letters.values()], replacement);
    const objects = [...letters.values()].flatMap((letter) => letter.object ?? []);
    for (const key of objects) await forgetRejected(engines.database, key);
    await resolveLetters(engines.deadLetters, [...letters.keys()], 'retried');
    say(`${sent} records sent again, ${objects.length} objects left to the next batch run`);
    return 0;
  });

export const dropLetters = (ids: readonly string[], options: Choice): Promise<number> =>
  withEngines('dlq', async (engines) => {
    const letters = await chosen(engines, ids, options.all);
    await resolveLetters(engines.deadLetters, [...letters.keys()], 'dropped');
    say(`${letters.size} letters dropped`);
    return 0;
  });
