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
