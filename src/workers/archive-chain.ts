import {
  type ArchiveEntry,
  entryOfObject,
  lastManifestEntry,
  manifestKey,
  putManifest,
  readManifestEntry,
} from '../blob/archive.ts';
import { archiveLine } from '../blob/archive-line.ts';
import type { ArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import { PinflowError } from '../errors.ts';
import type { PartitionState, PinLog } from '../log/log.ts';
import type { Logger } from '../logger.ts';

/**
 * The objects of a partition form one chain, whoever writes them: each writer begins where an object ends, the object that
 * begins at an offset is made by one conditional put, and whoever comes second takes over what is there. The archive is the
 * truth about how far it goes; the commits of the group follow it.
 */

/** Where a test may end the writer. */
export type ArchivePoint = 'after archive put, before manifest' | 'after manifest, before commit';

export const archiveConflict = (store: BlobStore, topic: string, what: string): PinflowError =>
  new PinflowError(
    'archive_conflict',
    `the archive in ${store.location} was written from another log than topic ${topic}: ${what}. Was the topic or DATA_DIR made anew? ` +
      'Set a new S3_PREFIX, or move the old archive away; nothing of the log is skipped meanwhile',
  );

/** The entry of what another writer put under this key. */
const entryThere = async (store: BlobStore, wanted: ArchiveEntry): Promise<ArchiveEntry> => {
  const head = await store.head(wanted.key);
  if (head !== null) return entryOfObject(head);
  throw new PinflowError('blob_unavailable', `${wanted.key} in ${store.location} is there and then not: trying again`, {
    retryable: true,
  });
};

const putOrAdopt = async (store: BlobStore, { entry, bytes, metadata }: ArchiveObject): Promise<ArchiveEntry> => {
  const options = { ifAbsent: true, metadata, contentType: 'application/gzip' };
  return (await store.put(entry.key, bytes, options)) === 'created' ? entry : entryThere(store, entry);
};

export type Extended = {
  /** What now stands in the chain at the object's first offset; its last offset may be another than the object's. */
  readonly entry: ArchiveEntry;
  /** The entry is new: this call is the one that counts its pins. */
  readonly added: boolean;
};

/**
 * Puts an object and its manifest entry, or adopts what begins at the same offset already. May be repeated after any failure.
 * @throws PinflowError `archive_conflict` when what is there has another first pin, and what the store throws
 */
export const extendChain = async (
  deps: { readonly store: BlobStore; readonly topic: string; readonly reached: (point: ArchivePoint) => void },
  object: ArchiveObject,
): Promise<Extended> => {
  const { store, topic, reached } = deps;
  const { partition, firstOffset: offset, firstLineSha256 } = object.entry;
  // Looked up first: a log made anew may give the offset another key, under which a second object would be created.
  const known = await readManifestEntry(store, { partition, offset });
  const entry = known ?? (await putOrAdopt(store, object));
  if (entry.firstLineSha256 !== firstLineSha256) {
    throw archiveConflict(
      store,
      topic,
      `${entry.key} begins with another pin than offset ${offset} of partition ${partition}`,
    );
  }
  reached('after archive put, before manifest');
  const added = known === null && (await putManifest(store, entry)) === 'created';
  if (known === null && !added) {
    const key = (await readManifestEntry(store, { partition, offset }))?.key;
    if (key !== entry.key) {
      throw archiveConflict(store, topic, `${manifestKey(partition, offset)} names ${key} and not ${entry.key}`);
    }
  }
  reached('after manifest, before commit');
  return { entry, added };
};

type StartDeps = { readonly log: PinLog; readonly store: BlobStore; readonly logger: Logger };

/** Compares the last object's first line with the log, where the log still has it. */
const checkSameLog = async ({ log, store }: StartDeps, last: ArchiveEntry, state: PartitionState): Promise<void> => {
  const { partition, firstOffset, lastOffset, key } = last;
  if (lastOffset >= state.end) {
    const what = `partition ${partition} is archived up to offset ${lastOffset}, and the log ends before ${state.end}`;
    throw archiveConflict(store, log.topic, what);
  }
  if (firstOffset < state.start) return;
  const [record] = await log.read({ partition, offset: firstOffset }, 1);
  if (record?.offset !== firstOffset) return;
  const line = archiveLine(record.value, record.timestamp);
  if (Bun.CryptoHasher.hash('sha256', line, 'hex') === last.firstLineSha256) return;
  throw archiveConflict(
    store,
    log.topic,
    `${key} begins with another pin than offset ${firstOffset} of partition ${partition}`,
  );
};

const stateOf = async (log: PinLog, partition: number): Promise<PartitionState> => {
  const state = (await log.partitions()).find((known) => known.partition === partition);
  if (state !== undefined) return state;
  throw new PinflowError('log_unavailable', `topic ${log.topic} shows no partition ${partition}: trying again`, {
    retryable: true,
  });
};

/**
 * Where to go on with a partition: after the end of its chain. The group's commit is only where to look for that end: it may
 * be lost, or behind (the writer died before it), or ahead (the archive was restored from a backup).
 * @returns the partition, its `start` being the first offset to archive
 * @throws PinflowError `archive_conflict` when the chain is not of this log
 */
export const findStart = async (
  deps: StartDeps,
  partition: number,
  committed: number | undefined,
): Promise<PartitionState> => {
  const { log, store, logger } = deps;
  const last = await lastManifestEntry(store, partition, committed ?? (await stateOf(log, partition)).end);
  // Asked after the chain: another writer may have gone on with both in between.
  const state = await stateOf(log, partition);
  if (last === null) {
    if (committed !== undefined && committed > state.start) {
      logger.warn(
        { partition, committed, start: state.start },
        'the archive is empty: it begins with the oldest record',
      );
    }
    return state;
  }
  await checkSameLog(deps, last, state);
  const next = last.lastOffset + 1;
  if (next < state.start) {
    const lost = { topic: log.topic, partition, firstOffset: next, lastOffset: state.start - 1 };
    logger.error(lost, 'records left the log before they were archived: raise RETENTION_HOURS and RETENTION_BYTES');
  }
  return { ...state, start: Math.max(next, state.start) };
};
