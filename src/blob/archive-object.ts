import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { messageOf, PinflowError } from '../errors.ts';
import { type DecodedRecord, decodeLines } from '../pin/decode.ts';
import { eachInTurns } from '../turns.ts';
import { type ArchiveEntry, entryMetadata, type OffsetRuns, objectKey } from './archive.ts';
import { lineReceivedAt } from './archive-line.ts';
import type { BlobMetadata, BlobStore } from './blob.ts';

/**
 * zlib's level 2, off the thread: 320k pins/s a core and 4.1 times smaller. Level 1 makes 510k of it but 3.0 times only, level 4
 * 150k and 4.6 times; libdeflate's level 1 makes 400k and 4.2 times, but holds the thread meanwhile.
 */
const GZIP = { level: 2, memLevel: 9, chunkSize: 1024 * 1024 } as const;
const compress = promisify(gzip);
const expandLarge = promisify(gunzip);
/** Compressed bytes up to which the thread expands by itself: libdeflate is twice as fast as zlib, and done with so much in some tens of milliseconds. */
const EXPAND_AT_ONCE_BYTES = 8 * 1024 * 1024;

const expand = async (bytes: Uint8Array): Promise<Uint8Array> =>
  bytes.length > EXPAND_AT_ONCE_BYTES ? expandLarge(bytes) : Bun.gunzipSync(new Uint8Array(bytes));
const LINE_FEED = 0x0a;

const sha256 = (bytes: Uint8Array): string => Bun.CryptoHasher.hash('sha256', bytes, 'hex');

/** Lines of one partition, in the order of their offsets. */
export type ArchiveText = {
  readonly partition: number;
  readonly runs: OffsetRuns;
  readonly pins: number;
  /** Lines of archiveLine(), each with its line feed. */
  readonly text: Uint8Array;
};

export type ArchiveObject = {
  readonly entry: ArchiveEntry;
  readonly bytes: Uint8Array;
  readonly metadata: BlobMetadata;
};

/** Lines → the object to put. The same lines give the same key, whoever encodes them. */
export const encodeArchiveObject = async ({ partition, runs, pins, text }: ArchiveText): Promise<ArchiveObject> => {
  const firstLine = text.subarray(0, text.indexOf(LINE_FEED));
  const firstOffset = runs[0]?.[0] ?? 0;
  const bytes = await compress(text, GZIP);
  const entry: ArchiveEntry = {
    key: objectKey({ partition, offset: firstOffset }, lineReceivedAt(firstLine)),
    partition,
    firstOffset,
    lastOffset: runs.at(-1)?.[1] ?? firstOffset,
    pins,
    bytes: bytes.length,
    sha256: sha256(bytes),
    firstLineSha256: sha256(firstLine),
    runs: runs.length > 1 ? runs : null,
  };
  return { entry, bytes, metadata: entryMetadata(entry) };
};

export type ArchivedLine = { readonly offset: number; readonly line: Uint8Array };

/** Each line of an object with its offset, in order. */
export function* linesOf({ runs, text }: Pick<ArchiveText, 'runs' | 'text'>): Generator<ArchivedLine, void> {
  let start = 0;
  for (const offset of offsetsOf(runs)) {
    const end = text.indexOf(LINE_FEED, start);
    yield { offset, line: text.subarray(start, end) };
    start = end + 1;
  }
}

/** The offsets that lines stand for, in order. */
function* offsetsOf(runs: OffsetRuns): Generator<number, void> {
  for (const [first, last] of runs) for (let offset = first; offset <= last; offset++) yield offset;
}

/** Bytes of lines that are decoded at once: their text fits the processor's cache. */
const BLOCK_BYTES = 64 * 1024;
/** Blocks decoded in one turn: some milliseconds, so that what else waits on this thread goes on. */
const BLOCKS_PER_TURN = 8;

/** Whole lines, some at a time. */
const blocksOf = (text: Uint8Array): readonly Uint8Array[] => {
  const blocks: Uint8Array[] = [];
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf(LINE_FEED, start + BLOCK_BYTES) + 1 || text.length;
    blocks.push(text.subarray(start, end));
    start = end;
  }
  return blocks;
};

/**
 * What each line of an object is, in order, in turns of the event loop.
 * @param each gets a line's bytes if it wants them
 */
export const eachRecord = async (
  { runs, text }: Pick<ArchiveText, 'runs' | 'text'>,
  each: (decoded: DecodedRecord, offset: number, bytes: () => Uint8Array) => void,
): Promise<void> => {
  const offsets = offsetsOf(runs);
  // Every line of the archive has its `received_at`.
  await eachInTurns(blocksOf(text), BLOCKS_PER_TURN, (block) =>
    decodeLines(block, (decoded, bytes) => each(decoded, offsets.next().value as number, bytes)),
  );
};

const countLines = (text: Uint8Array): number => {
  let lines = 0;
  for (let at = text.indexOf(LINE_FEED); at !== -1; at = text.indexOf(LINE_FEED, at + 1)) lines++;
  return lines;
};

const check = ({ runs, pins, text }: ArchiveText): void => {
  const lines = countLines(text);
  const offsets = runs.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  if (lines < offsets) throw new Error(`it has ${lines} lines, fewer than its offsets`);
  if (lines > offsets || (text.length > 0 && text.at(-1) !== LINE_FEED))
    throw new Error('it has more lines than offsets');
  if (lines !== pins) throw new Error(`it has ${lines} lines and not ${pins}`);
};

const decode = async (bytes: Uint8Array, entry: ArchiveEntry): Promise<ArchiveText> => {
  const digest = sha256(bytes);
  if (digest !== entry.sha256) throw new Error(`its SHA-256 is ${digest} and not ${entry.sha256}`);
  const { partition, pins, firstOffset, lastOffset } = entry;
  const runs = entry.runs ?? [[firstOffset, lastOffset] as const];
  const found = { partition, runs, pins, text: await expand(bytes) };
  check(found);
  return found;
};

/**
 * An object, checked against the manifest entry. Holds it uncompressed.
 * @throws PinflowError `corrupt_object` with the reason, `blob_unavailable`
 */
export const readArchiveText = async (store: BlobStore, entry: ArchiveEntry): Promise<ArchiveText> => {
  const found = await store.get(entry.key);
  try {
    if (found === null) throw new Error('it is in the manifest but not in the store');
    return await decode(found.bytes, entry);
  } catch (error) {
    const message = `archive object ${entry.key} in ${store.location} is damaged: ${messageOf(error)}. Restore it from a backup`;
    throw new PinflowError('corrupt_object', message, { cause: error });
  }
};

/** As {@link readArchiveText}, as its lines. */
export const readArchiveObject = async (store: BlobStore, entry: ArchiveEntry): Promise<readonly ArchivedLine[]> => [
  ...linesOf(await readArchiveText(store, entry)),
];
