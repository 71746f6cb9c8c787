import { MAX_RUNS } from '../blob/archive.ts';
import type { ArchiveText } from '../blob/archive-object.ts';
import type { LogRecord } from '../log/log.ts';
import { addParent } from '../tracing/tracing.ts';

/** Lines of one partition that wait to become an object. Offsets rise; memory is that of the lines and 16 bytes each. */
export type Draft = {
  /** Offset of the first line, or null. */
  readonly firstOffset: () => number | null;
  readonly pins: () => number;
  /** Bytes of the lines. */
  readonly bytes: () => number;
  /** No further line fits: at the limits, or at more holes than an object's metadata can tell of. */
  readonly isFull: () => boolean;
  /** @param headers of the record, which say what trace it belongs to */
  readonly append: (offset: number, line: Uint8Array, headers?: LogRecord['headers']) => void;
  /** Traces with a record in it. */
  readonly parents: ReadonlySet<string>;
  /** A new draft of the lines after this offset; empty when there are none. */
  readonly after: (offset: number) => Draft;
  /** Valid until the next `append`. */
  readonly text: () => ArchiveText;
};

export type DraftLimits = {
  /** Bytes; the line that reaches it is still taken. */
  readonly maxBytes: number;
  readonly maxPins: number;
};

/** First size of the buffer, bytes, and how it grows: quiet partitions cost little, and busy ones copy little. */
const START_BYTES = 64 * 1024;
const GROWTH = 4;
const LINE_FEED = 0x0a;

export const createDraft = (partition: number, limits: DraftLimits, traces: Iterable<string> = []): Draft => {
  let buffer = Buffer.allocUnsafe(START_BYTES);
  let size = 0;
  const offsets: number[] = [];
  /** Where each line ends in the buffer, its line feed included. */
  const ends: number[] = [];
  const runs: [number, number][] = [];
  const parents = new Set(traces);

  const makeRoom = (bytes: number) => {
    if (size + bytes <= buffer.length) return;
    // The line that reaches the limit goes beyond it by itself.
    const wanted = Math.min(buffer.length * GROWTH, limits.maxBytes + START_BYTES);
    const larger = Buffer.allocUnsafe(Math.max(wanted, size + bytes));
    buffer.copy(larger, 0, 0, size);
    buffer = larger;
  };

  const append: Draft['append'] = (offset, line, headers) => {
    if (headers !== undefined) addParent(parents, headers);
    makeRoom(line.length + 1);
    buffer.set(line, size);
    size += line.length + 1;
    buffer[size - 1] = LINE_FEED;
    offsets.push(offset);
    ends.push(size);
    const run = runs.at(-1);
    if (run?.[1] === offset - 1) run[1] = offset;
    else runs.push([offset, offset]);
  };

  return {
    firstOffset: () => offsets[0] ?? null,
    pins: () => offsets.length,
    bytes: () => size,
    isFull: () => size >= limits.maxBytes || offsets.length >= limits.maxPins || runs.length >= MAX_RUNS,
    append,
    parents,
    after: (last) => {
      const rest = createDraft(partition, limits, parents);
      for (const [i, offset] of offsets.entries()) {
        if (offset > last) rest.append(offset, buffer.subarray(ends[i - 1] ?? 0, (ends[i] ?? 1) - 1));
      }
      return rest;
    },
    text: () => ({ partition, runs, pins: offsets.length, text: buffer.subarray(0, size) }),
  };
};
