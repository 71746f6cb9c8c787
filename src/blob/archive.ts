import { z } from 'zod';
import { PinflowError } from '../errors.ts';
import type { Position } from '../pin/pin.ts';
import type { BlobMetadata, BlobStore } from './blob.ts';

/**
 * The shape of the archive over any BlobStore: what an object is called, what stands in its metadata, and the manifest
 * that makes the objects of a partition a chain anyone can follow at a cost that does not grow with the archive's age.
 *
 * - object   `pins/dt=2026-11-23/hour=18/<partition>-<first offset, 20 digits>.ndjson.gz`; date and hour are those of the
 *   first record's `received_at`, never the writer's clock: whoever writes the object of an offset gives it the same name
 * - manifest `manifest/<partition>/<first offset, 20 digits>.json`, an {@link ArchiveEntry}; put after its object
 */
const runSchema = z.tuple([z.int().min(0), z.int().min(0)]).readonly();
const entrySchema = z.object({
  key: z.string(),
  partition: z.int().min(0),
  firstOffset: z.int().min(0),
  lastOffset: z.int().min(0),
  /** Lines in the object. */
  pins: z.int().min(1),
  /** Compressed size. */
  bytes: z.int().min(1),
  /** Of the compressed bytes, hex. */
  sha256: z.string(),
  /** Of the first line, hex: tells another writer of the same records from a log that was made anew. */
  firstLineSha256: z.string(),
  /** Runs of offsets, `[first, last]` inclusive, when they are not one run (a Kafka log can have holes); else null. */
  runs: z.array(runSchema).readonly().nullable(),
});

export type ArchiveEntry = Readonly<z.output<typeof entrySchema>>;
export type OffsetRuns = readonly (readonly [number, number])[];

const pad = (offset: number) => String(offset).padStart(20, '0');

export const OBJECT_PREFIX = 'pins/';
export const MANIFEST_PREFIX = 'manifest/';
export const REJECT_PREFIX = 'rejects/';

/** Most runs of one object, so that its metadata stays under 2 KB: an object with more holes is closed early. */
export const MAX_RUNS = 64;
/** Manifest entries fetched at once: hides the round trips, and holds about half a kilobyte for each. */
const READ_AHEAD = 16;
/** Offsets looked back for the end of a chain, first and then: three lists for an object of 50,000 pins. */
const FIRST_STEP = 1000;
const STEP_GROWTH = 8;

/** @param receivedAtMicros of the record at `first` */
export const objectKey = (first: Position, receivedAtMicros: number): string => {
  const hour = new Date(Math.floor(receivedAtMicros / 1000)).toISOString();
  return `${OBJECT_PREFIX}dt=${hour.slice(0, 10)}/hour=${hour.slice(11, 13)}/${first.partition}-${pad(first.offset)}.ndjson.gz`;
};

export const manifestKey = (partition: number, firstOffset: number): string =>
  `${MANIFEST_PREFIX}${partition}/${pad(firstOffset)}.json`;

/** Runs as metadata: base 36, relative to the first offset, such as `0-1j.1l-9`. */
const encodeRuns = (runs: OffsetRuns, base: number): string =>
  runs.map(([first, last]) => `${(first - base).toString(36)}-${(last - base).toString(36)}`).join('.');

const decodeRuns = (text: string, base: number): OffsetRuns =>
  text.split('.').map((run) => {
    const [first = '', last = ''] = run.split('-');
    return [base + Number.parseInt(first, 36), base + Number.parseInt(last, 36)] as const;
  });

/** What stands in the metadata of an object: enough to write its manifest entry anew. */
export const entryMetadata = (entry: ArchiveEntry): BlobMetadata => ({
  partition: String(entry.partition),
  'first-offset': String(entry.firstOffset),
  'last-offset': String(entry.lastOffset),
  pins: String(entry.pins),
  sha256: entry.sha256,
  'first-line-sha256': entry.firstLineSha256,
  ...(entry.runs === null ? {} : { runs: encodeRuns(entry.runs, entry.firstOffset) }),
});

const checkEntry = (value: unknown, where: string): ArchiveEntry => {
  const parsed = entrySchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map((issue) => issue.path.join('.') || 'all of it').join(', ');
  throw new PinflowError('corrupt_object', `${where} is damaged (${wrong}): restore it from a backup`);
};

/** The inverse of {@link entryMetadata}. @throws PinflowError `corrupt_object` when the object was copied without its metadata */
export const entryOfObject = (object: { key: string; size: number; metadata: BlobMetadata }): ArchiveEntry => {
  const { key, size: bytes, metadata } = object;
  const firstOffset = Number(metadata['first-offset']);
  const entry = {
    key,
    partition: Number(metadata.partition),
    firstOffset,
    lastOffset: Number(metadata['last-offset']),
    pins: Number(metadata.pins),
    bytes,
    sha256: metadata.sha256,
    firstLineSha256: metadata['first-line-sha256'],
    runs: metadata.runs === undefined ? null : decodeRuns(metadata.runs, firstOffset),
  };
  return checkEntry(entry, `the metadata of archive object ${key}`);
};

/** Adds an object to the chain. @returns `exists` when another writer was first; its entry is the same by construction */
export const putManifest = (store: BlobStore, entry: ArchiveEntry): Promise<'created' | 'exists'> =>
  store.put(manifestKey(entry.partition, entry.firstOffset), Buffer.from(`${JSON.stringify(entry)}\n`), {
    ifAbsent: true,
    contentType: 'application/json',
  });

const readEntry = async (store: BlobStore, key: string): Promise<ArchiveEntry | null> => {
  const found = await store.get(key);
  if (found === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(found.bytes).toString());
  } catch {
    value = null;
  }
  return checkEntry(value, `archive manifest entry ${key}`);
};

/** The entry of the object that begins at this offset; null when there is none (yet). */
export const readManifestEntry = (store: BlobStore, first: Position): Promise<ArchiveEntry | null> =>
  readEntry(store, manifestKey(first.partition, first.offset));

const manifestKeys = (store: BlobStore, partition: number, fromOffset: number) =>
  store.list({
    prefix: `${MANIFEST_PREFIX}${partition}/`,
    startAfter: fromOffset <= 0 ? undefined : manifestKey(partition, fromOffset - 1),
  });

/**
 * The chain of a partition, in offset order: each entry begins after the last offset of the one before.
 * @param fromOffset objects that begin at this offset or later (Default: all)
 * @throws PinflowError `corrupt_object` for a manifest entry that cannot be read
 */
export async function* listManifest(
  store: BlobStore,
  partition: number,
  fromOffset = 0,
): AsyncGenerator<ArchiveEntry, void> {
  const fetched = async function* (keys: readonly string[]) {
    for (const entry of await Promise.all(keys.map((key) => readEntry(store, key)))) if (entry !== null) yield entry;
  };
  let keys: string[] = [];
  for await (const { key } of manifestKeys(store, partition, fromOffset)) {
    keys.push(key);
    if (keys.length < READ_AHEAD) continue;
    yield* fetched(keys);
    keys = [];
  }
  yield* fetched(keys);
}

/**
 * The end of a partition's chain; null when it has none. The cost does not grow with the archive's age: it looks back from
 * `near` in growing steps and then lists what lies after.
 * @param near an offset the chain is likely to end at, such as the group's commit
 */
export const lastManifestEntry = async (
  store: BlobStore,
  partition: number,
  near: number,
): Promise<ArchiveEntry | null> => {
  for (let step = FIRST_STEP; ; step *= STEP_GROWTH) {
    const from = Math.max(0, near - step);
    let last: string | null = null;
    for await (const { key } of manifestKeys(store, partition, from)) last = key;
    if (last !== null) return readEntry(store, last);
    if (from === 0) return null;
  }
};

/** Partitions that have objects, ascending. */
export const archivePartitions = async (store: BlobStore): Promise<readonly number[]> =>
  (await store.folders(MANIFEST_PREFIX))
    .flatMap((name) => (/^\d+$/.test(name) ? Number(name) : []))
    .sort((a, b) => a - b);
