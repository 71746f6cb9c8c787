import { REJECT_PREFIX, readManifestEntry } from '../blob/archive.ts';
import { type ArchiveText, linesOf, readArchiveText } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import type { Clock } from '../clock.ts';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import { type KnownObject, progressOf } from '../db/postgres/ledger.ts';
import type { Database } from '../db/postgres/open.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import { type DeadLetter, letterValue, type SendDeadLetters } from '../log/dlq.ts';
import type { Metrics } from '../metrics.ts';
import type { Quality } from '../pin/quality.ts';
import { cleanLines, type RejectedLine } from './clean-lines.ts';
import type { Retrying } from './clean-retry.ts';
import type { RefusedRow } from './clean-upsert.ts';

/** Dead letters of one append: each may be as large as a pin. */
const LETTERS_PER_SEND = 100;
/** An object is damaged only when two reads say so: one may have been cut short on its way. */
const DAMAGED_READS = 2;

export type CleanedObject =
  | {
      readonly kind: 'cleaned';
      readonly rows: readonly PinRow[];
      readonly pins: number;
      readonly errors: number;
      /** Lines that were set aside. */
      readonly rejects: number;
      readonly text: ArchiveText;
      readonly quality: Quality;
    }
  /** The object is damaged, and was set aside as a whole. */
  | { readonly kind: 'rejected'; readonly reason: string };

export type ObjectCleaner = {
  /**
   * Reads and cleans an object and hands it to `work`. Stores that are at the same object at the same time share one
   * reading. What cannot be cleaned is in the dead letter queue, and a damaged object under rejects/, before `work` begins.
   * @throws PinflowError `blob_unavailable`, `log_unavailable`, `postgres_unavailable`, and what `work` throws
   */
  readonly use: <T>(
    object: KnownObject,
    signal: AbortSignal,
    work: (cleaned: CleanedObject) => Promise<T>,
  ) => Promise<T>;
  /** Begins to read and clean an object that is about to be used. @returns lets go of it, once it is read: to be called once */
  readonly begin: (object: KnownObject, signal: AbortSignal) => () => Promise<void>;
  /** Sends rows that a store refused to the dead letter queue, as the lines they came from. */
  readonly setRowsAside: (
    object: KnownObject,
    text: ArchiveText,
    refused: readonly RefusedRow[],
    signal: AbortSignal,
  ) => Promise<void>;
};

export type ObjectCleanerDeps = {
  readonly store: BlobStore;
  readonly database: Database;
  readonly sendDeadLetters: SendDeadLetters;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly retrying: Retrying;
};

/** Calls under way for the same key share one result, kept until the last of them is through with it. */
const sharing = <V>() => {
  type Entry = { readonly value: Promise<V>; users: number };
  const held = new Map<string, Entry>();
  const enter = (key: string, make: () => Promise<V>): Entry => {
    const entry = held.get(key) ?? { value: make(), users: 0 };
    held.set(key, entry);
    entry.users++;
    return entry;
  };
  const leave = (key: string, entry: Entry) => {
    entry.users--;
    if (entry.users === 0) held.delete(key);
  };
  return {
    use: async <T>(key: string, make: () => Promise<V>, work: (value: V) => Promise<T>): Promise<T> => {
      const entry = enter(key, make);
      try {
        return await work(await entry.value);
      } finally {
        leave(key, entry);
      }
    },
    /** Begins it for a call to come, which gets what went wrong, too. @returns lets go of it, when it has ended */
    begin: (key: string, make: () => Promise<V>): (() => Promise<void>) => {
      const entry = enter(key, make);
      const ended = entry.value.then(
        () => {},
        () => {},
      );
      return async () => {
        await ended;
        leave(key, entry);
      };
    },
  };
};

/** An object, checked against its manifest entry. */
const read = async (store: BlobStore, object: KnownObject): Promise<ArchiveText> => {
  const entry = await readManifestEntry(store, { partition: object.partition, offset: object.firstOffset });
  if (entry !== null) return readArchiveText(store, entry);
  throw new PinflowError(
    'blob_unavailable',
    `${store.location} has neither ${object.key} nor its manifest entry, which the ledger knows: is this the archive that belongs to DATABASE_URL? Check S3_BUCKET, S3_PREFIX and DATA_DIR.`,
  );
};

/** What is in it, or the reason why that cannot be told. */
const readTwice = async (
  { store, retrying }: ObjectCleanerDeps,
  object: KnownObject,
  signal: AbortSignal,
): Promise<ArchiveText | string> => {
  for (let reads = 1; ; reads++) {
    try {
      return await retrying(store.kind, () => read(store, object), signal);
    } catch (error) {
      if (!isPinflowError(error, 'corrupt_object')) throw error;
      if (reads >= DAMAGED_READS) return messageOf(error);
    }
  }
};

/** A damaged object goes under rejects/ as it is, with a note beside it. Doing so twice changes nothing. */
const copyToRejects = async (store: BlobStore, object: KnownObject, reason: string, at: string): Promise<void> => {
  const copy = `${REJECT_PREFIX}${object.key}`;
  const damaged = await store.get(object.key);
  if (damaged !== null) await store.put(copy, damaged.bytes, { ifAbsent: false });
  const note = JSON.stringify({ ...object, reason, copied: damaged !== null, at });
  await store.put(`${copy}.json`, Buffer.from(`${note}\n`), { ifAbsent: false, contentType: 'application/json' });
};

export const createObjectCleaner = (deps: ObjectCleanerDeps): ObjectCleaner => {
  const { store, database, metrics, clock, retrying } = deps;
  const shared = sharing<CleanedObject>();
  const now = () => new Date(clock.now()).toISOString();

  const send = async (letters: readonly DeadLetter[], signal: AbortSignal) => {
    for (let at = 0; at < letters.length; at += LETTERS_PER_SEND) {
      const some = letters.slice(at, at + LETTERS_PER_SEND);
      await retrying('log', () => deps.sendDeadLetters(some), signal);
      metrics.deadLetters.inc({ stage: 'clean' }, some.length);
    }
  };

  const lineLetter = ({ partition }: KnownObject, { offset, reason, value }: RejectedLine): DeadLetter => ({
    stage: 'clean',
    reason,
    position: { partition, offset },
    object: null,
    attempts: 1,
    ...letterValue(value),
    at: now(),
  });

  /** Another store's walk, or an earlier run, has sent the letters of this object already. */
  const isKnown = async (object: KnownObject, signal: AbortSignal): Promise<boolean> => {
    const progress = await retrying('postgres', () => progressOf(database, object), signal);
    return progress.some(({ status }) => status !== 'retry');
  };

  const setObjectAside = async (object: KnownObject, reason: string, signal: AbortSignal) => {
    const at = now();
    await retrying(store.kind, () => copyToRejects(store, object, reason, at), signal);
    const about = { stage: 'clean', reason, position: null, object: object.key, attempts: DAMAGED_READS } as const;
    await send([{ ...about, value: '', encoding: 'utf8', at }], signal);
    metrics.cleanRejects.inc({ kind: 'object' });
  };

  const make = async (object: KnownObject, signal: AbortSignal): Promise<CleanedObject> => {
    const text = await readTwice(deps, object, signal);
    if (typeof text === 'string') {
      if (!(await isKnown(object, signal))) await setObjectAside(object, text, signal);
      return { kind: 'rejected', reason: text };
    }
    const { rejected, ...cleaned } = await cleanLines(text);
    if (rejected.length > 0 && !(await isKnown(object, signal))) {
      const letters = rejected.map((line) => lineLetter(object, line));
      await send(letters, signal);
      metrics.cleanRejects.inc({ kind: 'line' }, rejected.length);
    }
    return { kind: 'cleaned', ...cleaned, rejects: rejected.length, text };
  };

  return {
    use: (object, signal, work) => shared.use(object.key, () => make(object, signal), work),
    begin: (object, signal) => shared.begin(object.key, () => make(object, signal)),
    setRowsAside: async (object, text, refused, signal) => {
      if (refused.length === 0) return;
      const reasons = new Map(refused.map(({ row, reason }) => [row.position.offset, reason]));
      const letters = [...linesOf(text)].flatMap(({ offset, line }) => {
        const reason = reasons.get(offset);
        return reason === undefined ? [] : lineLetter(object, { offset, reason, value: line });
      });
      await send(letters, signal);
      metrics.cleanRejects.inc({ kind: 'row' }, letters.length);
    },
  };
};
