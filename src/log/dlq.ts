import type { Position } from '../pin/pin.ts';
import type { PinLog } from './log.ts';

/** What could not be handled after its retries, with what one needs to judge it and to send it again. */
export type DeadLetter = {
  readonly stage: 'stream' | 'archive' | 'clean';
  readonly reason: string;
  /** Where the record stands in the pin log; null for a whole archive object. */
  readonly position: Position | null;
  /** Key of the archive object in question, or null. */
  readonly object: string | null;
  readonly attempts: number;
  /** Who posted it (source.ts), where the stage that gave up on it knows. */
  readonly source?: string | null;
  /** The record as it was: text when it is UTF-8, else base64. */
  readonly value: string;
  readonly encoding: 'utf8' | 'base64';
  /** RFC 3339. */
  readonly at: string;
};

/** Puts dead letters on the topic `<PIN_TOPIC>.dlq`. Durable when it resolves. */
export type SendDeadLetters = (letters: readonly DeadLetter[]) => Promise<void>;

const encoder = new TextEncoder();

/** A letter is keyed by where it came from, so that a letter sent twice (a replay) is known for the same. */
export const letterKey = (letter: DeadLetter): string =>
  `${letter.stage}:${letter.object ?? `${letter.position?.partition}/${letter.position?.offset}`}`;

/** @param log the log opened on the DLQ topic */
export const deadLetterSender =
  (log: Pick<PinLog, 'append'>): SendDeadLetters =>
  async (letters) => {
    if (letters.length === 0) return;
    await log.append(
      letters.map((letter) => ({ key: letterKey(letter), value: encoder.encode(JSON.stringify(letter)) })),
    );
  };

/** Bytes of a record as a dead letter carries them. */
export const letterValue = (bytes: Uint8Array): Pick<DeadLetter, 'value' | 'encoding'> => {
  try {
    return { value: new TextDecoder('utf-8', { fatal: true }).decode(bytes), encoding: 'utf8' };
  } catch {
    return { value: Buffer.from(bytes).toString('base64'), encoding: 'base64' };
  }
};

/** Closes letters: written to the same topic, as a log only appends. */
type Resolution = { readonly resolves: readonly string[]; readonly action: 'retried' | 'dropped'; readonly at: string };

/** Letters held in memory by a listing; at some KB a letter that is well under 1 GB. The oldest are kept. */
const MAX_OPEN_LETTERS = 100_000;
const READ_RECORDS = 1000;

const parse = (value: Uint8Array): DeadLetter | Resolution => JSON.parse(new TextDecoder().decode(value));

type ReadableLog = Pick<PinLog, 'partitions' | 'read'>;

/**
 * Letters nobody has retried or dropped, oldest first, by their id; a letter sent again after that is open again.
 * @param keep what to remember of a letter
 * @returns brings the map up to date, reading only what came since the call before
 */
export const followLetters = <T>(log: ReadableLog, keep: (letter: DeadLetter) => T) => {
  const open = new Map<string, T>();
  const readUpTo = new Map<number, number>();

  const take = (value: Uint8Array) => {
    const entry = parse(value);
    if ('resolves' in entry) for (const id of entry.resolves) open.delete(id);
    else if (open.size < MAX_OPEN_LETTERS) open.set(letterKey(entry), keep(entry));
  };

  return async (): Promise<ReadonlyMap<string, T>> => {
    for (const { partition, start, end } of await log.partitions()) {
      for (let offset = Math.max(start, readUpTo.get(partition) ?? 0); offset < end; ) {
        const records = await log.read({ partition, offset }, READ_RECORDS);
        const last = records.at(-1);
        if (last === undefined) break;
        for (const record of records) take(record.value);
        offset = last.offset + 1;
        readUpTo.set(partition, offset);
      }
    }
    return open;
  };
};

/** The open letters now, see {@link followLetters}. */
export const openLetters = (log: ReadableLog): Promise<ReadonlyMap<string, DeadLetter>> =>
  followLetters(log, (letter) => letter)();

/** Marks letters as dealt with. Durable when it resolves. */
export const resolveLetters = async (
  log: Pick<PinLog, 'append'>,
  ids: readonly string[],
  action: Resolution['action'],
): Promise<void> => {
  const resolution: Resolution = { resolves: ids, action, at: new Date().toISOString() };
  await log.append([{ key: 'resolution', value: encoder.encode(JSON.stringify(resolution)) }]);
};

/** The bytes of the record a letter is about. */
export const letterBytes = (letter: DeadLetter): Uint8Array =>
  letter.encoding === 'utf8' ? encoder.encode(letter.value) : Buffer.from(letter.value, 'base64');
