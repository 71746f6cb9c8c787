import { archiveLine } from '../blob/archive-line.ts';
import { encodeArchiveObject } from '../blob/archive-object.ts';
import type { Clock } from '../clock.ts';
import type { LogBatch, PartitionState } from '../log/log.ts';
import type { Extended } from './archive-chain.ts';
import { createDraft, type Draft, type DraftLimits } from './archive-draft.ts';

export type ArchiveLimits = DraftLimits & {
  /** Age of the oldest line at which an object is closed, seconds of wall clock. */
  readonly maxSeconds: number;
};

/** `start` is the first offset that is not archived. */
export type PartitionDeps = PartitionState & {
  readonly limits: ArchiveLimits;
  readonly clock: Clock;
  /** Puts the object or adopts what is there; goes on trying until `gone`. */
  readonly extend: (
    object: Awaited<ReturnType<typeof encodeArchiveObject>>,
    gone: AbortSignal,
    /** Traces with a record in it. */
    parents: ReadonlySet<string>,
  ) => Promise<Extended>;
  /** Commits for the group; false when the partition belongs to another member now. */
  readonly commit: (nextOffset: number, gone: AbortSignal) => Promise<boolean>;
  /** The error that says that the archive is of another log. */
  readonly conflict: (what: string) => Error;
};

/** One partition on its way into the archive: an object in the making and at most one being written. */
export type ArchivePartition = {
  /** Buffers records. Waits while the object in the making is full and the one before it is still being written. */
  readonly take: (batch: LogBatch) => Promise<void>;
  /** Bytes buffered, in the making and being written. */
  readonly bytes: () => number;
  /** Records of the log that are not archived, as far as is known. */
  readonly lag: () => number;
  /** Begins to write what has waited long enough. */
  readonly writeIfDue: () => void;
  /** Writes all that is buffered. */
  readonly flush: () => Promise<void>;
  /** Drops what is buffered. What is being put just now may still be put: that is what the conditional put is for. */
  readonly abandon: () => void;
  /** Rejects when a write cannot go on. Never resolves. */
  readonly failed: Promise<never>;
};

export const createArchivePartition = (deps: PartitionDeps): ArchivePartition => {
  const { partition, limits, clock } = deps;
  const gone = new AbortController();
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  let draft = createDraft(partition, limits);
  /** When the first line of the draft came, milliseconds since the Unix epoch. */
  let draftedAt = 0;
  let archived = deps.start - 1;
  /** Last offset that was buffered. */
  let taken = archived;
  let highWatermark = deps.end;
  let writing: { readonly done: Promise<void>; readonly bytes: number } | null = null;

  const abandon = () => {
    gone.abort();
    draft = createDraft(partition, limits);
  };

  const write = async (sealed: Draft) => {
    // More than one round when what is there already ends before the sealed lines do.
    for (let rest = sealed; rest.pins() > 0 && !gone.signal.aborted; rest = rest.after(archived)) {
      const { entry } = await deps.extend(await encodeArchiveObject(rest.text()), gone.signal, rest.parents);
      archived = entry.lastOffset;
      if (!(await deps.commit(archived + 1, gone.signal))) abandon();
    }
    const first = draft.firstOffset();
    if (first !== null && first <= archived) draft = draft.after(archived);
  };

  const seal = (): Promise<void> => {
    const sealed = draft;
    draft = createDraft(partition, limits);
    const done = write(sealed)
      .catch((error) => {
        if (!gone.signal.aborted) failure.reject(error);
        abandon();
      })
      .finally(() => {
        writing = null;
      });
    writing = { done, bytes: sealed.bytes() };
    return done;
  };

  const writeWhileFull = async () => {
    while (draft.isFull() && !gone.signal.aborted) {
      if (writing !== null) await writing.done;
      else void seal();
    }
  };

  const take = async (batch: LogBatch) => {
    highWatermark = batch.highWatermark;
    if (highWatermark <= taken) {
      throw deps.conflict(`partition ${partition} ended after offset ${taken} and now ends before ${highWatermark}`);
    }
    for (const { offset, value, timestamp, headers } of batch.records) {
      if (gone.signal.aborted) return;
      if (offset <= taken || offset <= archived) continue;
      if (draft.pins() === 0) draftedAt = clock.now();
      draft.append(offset, archiveLine(value, timestamp), headers);
      taken = offset;
      if (draft.isFull()) await writeWhileFull();
    }
  };

  return {
    take,
    bytes: () => draft.bytes() + (writing?.bytes ?? 0),
    lag: () => Math.max(0, highWatermark - archived - 1),
    writeIfDue: () => {
      if (draft.pins() === 0 || writing !== null) return;
      // A wall clock that was set back must not make a line wait for it.
      draftedAt = Math.min(draftedAt, clock.now());
      if (clock.now() - draftedAt >= limits.maxSeconds * 1000) void seal();
    },
    flush: async () => {
      while (writing !== null) await writing.done;
      if (draft.pins() > 0 && !gone.signal.aborted) await seal();
    },
    abandon,
    failed: failure.promise,
  };
};
