import type { Position } from '../pin/pin.ts';

/**
 * The shape of the archive over any BlobStore: what an object is called, what stands in its metadata, and the manifest
 * that makes the objects of a partition a chain anyone can follow at a cost that does not grow with the archive's age.
 *
 * - object   `pins/dt=2026-11-23/hour=18/<partition>-<first offset, 20 digits>.ndjson.gz`; date and hour are those of the
 *   first record's `received_at`, never the writer's clock: whoever writes the object of an offset gives it the same name
 * - manifest `manifest/<partition>/<first offset, 20 digits>.json`, an {@link ArchiveEntry}; put after its object
 */
export type ArchiveEntry = {
  readonly key: string;
  readonly partition: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
  /** Lines in the object. */
  readonly pins: number;
  /** Compressed size. */
  readonly bytes: number;
  /** Of the compressed bytes, hex. */
  readonly sha256: string;
  /** Of the first line, hex: tells another writer of the same records from a log that was made anew. */
  readonly firstLineSha256: string;
  /** Runs of offsets, `[first, last]` inclusive, when they are not one run (a Kafka log can have holes); else null. */
  readonly runs: readonly (readonly [number, number])[] | null;
};

const pad = (offset: number) => String(offset).padStart(20, '0');

export const OBJECT_PREFIX = 'pins/';
export const MANIFEST_PREFIX = 'manifest/';
export const REJECT_PREFIX = 'rejects/';

/** @param receivedAtMicros of the record at `first` */
export const objectKey = (first: Position, receivedAtMicros: number): string => {
  const hour = new Date(Math.floor(receivedAtMicros / 1000)).toISOString();
  return `${OBJECT_PREFIX}dt=${hour.slice(0, 10)}/hour=${hour.slice(11, 13)}/${first.partition}-${pad(first.offset)}.ndjson.gz`;
};

export const manifestKey = (partition: number, firstOffset: number): string =>
  `${MANIFEST_PREFIX}${partition}/${pad(firstOffset)}.json`;
