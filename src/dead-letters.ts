import { forgetRejected } from './db/postgres/ledger.ts';
import type { Database } from './db/postgres/open.ts';
import { PinflowError } from './errors.ts';
import { type DeadLetter, letterBytes, openLetters, resolveLetters } from './log/dlq.ts';
import type { NewRecord, PinLog } from './log/log.ts';
import { sourceHeaders } from './log/source.ts';
import { decodeRecord } from './pin/decode.ts';

/** What one does with the dead letter queue, by the command line or the dashboard. */
export type LetterEngines = {
  readonly log: Pick<PinLog, 'append'>;
  readonly deadLetters: Pick<PinLog, 'append' | 'partitions' | 'read'>;
  readonly database: Pick<Database, 'db'>;
};

/** The open letters of these ids, or all of them. @throws PinflowError `not_found` that names ids without an open letter */
export const chosenLetters = async (
  { deadLetters }: Pick<LetterEngines, 'deadLetters'>,
  ids: readonly string[] | 'all',
): Promise<ReadonlyMap<string, DeadLetter>> => {
  const open = await openLetters(deadLetters);
  if (ids === 'all') return open;
  const unknown = ids.filter((id) => !open.has(id));
  if (unknown.length > 0)
    throw new PinflowError('not_found', `no open letter has the id ${unknown.join(', ')}: see \`dlq list\``);
  return new Map(ids.map((id) => [id, open.get(id) as DeadLetter]));
};

/** One record a position, however many stages complained of it; the same id posted again is an update. */
const resend = async (
  { log }: Pick<LetterEngines, 'log'>,
  letters: readonly DeadLetter[],
  replacement: Uint8Array | null,
): Promise<number> => {
  const records = new Map<string, NewRecord>();
  for (const letter of letters) {
    if (letter.position === null) continue;
    const value = replacement ?? letterBytes(letter);
    const decoded = decodeRecord(value, Date.now());
    const place = `${letter.position.partition}/${letter.position.offset}`;
    if (!decoded.ok)
      throw new PinflowError(
        'invalid_pin',
        `the record at ${place} of the log is still no pin: ${decoded.reject.reason}. Give a right one by \`dlq retry --with FILE\`, or drop it.`,
      );
    // The batch layer reads the archive, which has no headers: what another stage knew stays.
    const from = letter.source ? sourceHeaders(letter.source) : { headers: records.get(place)?.headers ?? {} };
    records.set(place, { key: decoded.value.unique_id, value, ...from });
  }
  if (records.size > 0) await log.append([...records.values()]);
  return records.size;
};

/**
 * Sends the records of letters again and leaves their objects to the next batch run.
 * @param replacement stands in for the record, of one letter
 * @throws PinflowError `invalid_pin` when one is still no pin; nothing was sent then
 */
export const retryLetters = async (
  engines: LetterEngines,
  letters: ReadonlyMap<string, DeadLetter>,
  replacement: Uint8Array | null = null,
): Promise<{ readonly records: number; readonly objects: number }> => {
  const records = await resend(engines, [...letters.values()], replacement);
  const objects = [...letters.values()].flatMap((letter) => letter.object ?? []);
  for (const key of objects) await forgetRejected(engines.database, key);
  await resolveLetters(engines.deadLetters, [...letters.keys()], 'retried');
  return { records, objects: objects.length };
};

/** Closes letters for good; their records stay in the archive. */
export const dropLetters = (
  { deadLetters }: Pick<LetterEngines, 'deadLetters'>,
  letters: ReadonlyMap<string, DeadLetter>,
): Promise<void> => resolveLetters(deadLetters, [...letters.keys()], 'dropped');
