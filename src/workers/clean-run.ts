import { archivePartitions, listManifest } from '../blob/archive.ts';
import type { BlobStore } from '../blob/blob.ts';
import {
  addObjects,
  frontier,
  type KnownObject,
  markObject,
  type ObjectProgress,
  pendingObjects,
  type RunCounts,
  retriedObjects,
} from '../db/postgres/ledger.ts';
import type { Database } from '../db/postgres/open.ts';
import { isPinflowError, messageOf } from '../errors.ts';
import type { Metrics } from '../metrics.ts';
import type { CleanedObject, ObjectCleaner } from './clean-object.ts';
import type { Retrying } from './clean-retry.ts';
import { isStoreFailure, type RefusedRow, type StoreWriter } from './clean-upsert.ts';

/** Manifest entries added to the ledger in one statement. */
const DISCOVER_BATCH = 500;
/** Pending objects asked for at a time, so that memory does not grow with what is left to do. */
const PENDING_PAGE = 200;
/**
 * An object that cannot be handled now (its read fails, say) is left to the next run, and the walk goes on. After this many
 * in a row it is not the objects: the walk ends.
 */
const MAX_POSTPONED_IN_A_ROW = 3;

/** Where a crash is worth a test. */
export type CleanPoint = 'run started' | 'objects discovered' | 'chunk upserted' | 'object upserted' | 'object marked';

export type RunDeps = {
  readonly store: BlobStore;
  readonly database: Database;
  readonly writers: readonly StoreWriter[];
  readonly objects: ObjectCleaner;
  readonly metrics: Metrics;
  readonly retrying: Retrying;
  readonly reached: (point: CleanPoint) => void;
};

/** Counts of a run while it is under way. */
export type Tally = { -readonly [K in keyof RunCounts]: number };

export type RunPlan = {
  readonly runId: number;
  /** First offset by partition up to which every store is known to have everything: what is below is not asked for. */
  readonly floor: ReadonlyMap<number, number>;
  readonly signal: AbortSignal;
  readonly tally: Tally;
};

export type RunOutcome = {
  /** Why parts of the run did not succeed, one sentence each; empty when all of it did (or `signal` aborted). */
  readonly failures: readonly string[];
  /** First offset by partition of the newest object known. */
  readonly frontier: ReadonlyMap<number, number>;
};

/** Adds what the manifest has after the last known object, in order: a crash leaves no gap in the ledger. */
const discoverPartition = async ({ store, database }: RunDeps, partition: number, signal: AbortSignal) => {
  let last = await frontier(database, partition);
  let found: KnownObject[] = [];
  const add = async () => {
    await addObjects(database, found);
    last = found.at(-1)?.firstOffset ?? last;
    found = [];
  };
  for await (const entry of listManifest(store, partition, (last ?? -1) + 1)) {
    if (signal.aborted) break;
    found.push(entry);
    if (found.length >= DISCOVER_BATCH) await add();
  }
  await add();
  return last;
};

type Discovered = RunOutcome & { readonly partitions: readonly number[] };

const discover = async (deps: RunDeps, signal: AbortSignal): Promise<Discovered> => {
  const { store, retrying } = deps;
  const found = new Map<number, number>();
  const failures: string[] = [];
  const attempt = async <T>(work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await retrying(store.kind, work, signal);
    } catch (error) {
      failures.push(`the manifest of the archive: ${messageOf(error)}`);
      return otherwise;
    }
  };
  const partitions = await attempt(() => archivePartitions(store), []);
  for (const partition of partitions) {
    const last = await attempt(() => discoverPartition(deps, partition, signal), null);
    if (last !== null) found.set(partition, last);
  }
  return { failures, frontier: found, partitions };
};

/** What a store does not have yet: first what someone asked for again, then partition by partition in the order of the chain. */
async function* pending(deps: RunDeps, { floor, signal }: RunPlan, store: string, partitions: readonly number[]) {
  const { database, retrying } = deps;
  yield* await retrying('postgres', () => retriedObjects(database, store, PENDING_PAGE), signal);
  for (const partition of partitions) {
    let page: readonly KnownObject[] = [];
    do {
      const after = page.at(-1)?.firstOffset ?? floor.get(partition) ?? -1;
      const query = { partition, store, after, limit: PENDING_PAGE };
      page = await retrying('postgres', () => pendingObjects(database, query), signal);
      yield* page;
    } while (page.length === PENDING_PAGE);
  }
}

const progressRow = (
  { partition, firstOffset }: KnownObject,
  cleaned: CleanedObject,
  refused: readonly RefusedRow[],
): Omit<ObjectProgress, 'store' | 'runId'> => {
  return cleaned.kind === 'rejected'
    ? { partition, firstOffset, status: 'rejected', pins: 0, errors: 0, rejects: 1, reason: cleaned.reason }
    : {
        partition,
        firstOffset,
        status: 'done',
        pins: cleaned.pins - refused.length,
        errors: cleaned.errors,
        rejects: cleaned.rejects + refused.length,
        reason: null,
      };
};

/** One object into one store. False when `signal` aborted before it was finished: the next run does it anew. */
const cleanInto = (deps: RunDeps, { runId, signal, tally }: RunPlan, writer: StoreWriter, object: KnownObject) =>
  deps.objects.use(object, signal, async (cleaned) => {
    const refused = cleaned.kind === 'cleaned' ? await writer.upsert(cleaned.rows, signal) : [];
    if (refused === null) return false;
    deps.reached('object upserted');
    if (cleaned.kind === 'cleaned') await deps.objects.setRowsAside(object, cleaned.lines, refused, signal);
    const progress = progressRow(object, cleaned, refused);
    const marking = () => markObject(deps.database, { ...progress, store: writer.name, runId });
    await deps.retrying('postgres', marking, signal);
    deps.reached('object marked');
    deps.metrics.cleanedPins.inc({ store: writer.name }, progress.pins);
    tally.objects++;
    tally.pins += progress.pins;
    tally.errors += progress.errors;
    tally.rejects += progress.rejects;
    tally.bytes += object.bytes;
    return true;
  });

/** Errors that the next object would meet too. */
const endsWalk = (error: unknown) =>
  isPinflowError(error) &&
  ((error.code === 'pin_store_unavailable' && isStoreFailure(error)) ||
    ['config', 'disk_full', 'postgres_unavailable'].includes(error.code));

/** Brings one store up to date. @returns why it could not, in sentences */
const walk = async (deps: RunDeps, plan: RunPlan, writer: StoreWriter, partitions: readonly number[]) => {
  const { signal } = plan;
  let postponed = 0;
  let inARow = 0;
  let example = '';
  try {
    await deps.retrying(writer.name, writer.prepare, signal);
    for await (const object of pending(deps, plan, writer.name, partitions)) {
      if (signal.aborted) return [];
      try {
        if (!(await cleanInto(deps, plan, writer, object))) return [];
        inARow = 0;
      } catch (error) {
        if (endsWalk(error)) throw error;
        if (postponed++ === 0) example = `${object.key}: ${messageOf(error)}`;
        if (++inARow >= MAX_POSTPONED_IN_A_ROW) break;
      }
    }
  } catch (error) {
    return [`${writer.name}: ${messageOf(error)}`];
  }
  return postponed === 0 ? [] : [`${writer.name}: ${postponed} objects left to the next run, such as ${example}`];
};

/** One batch run: what is new in the archive into the ledger, then every store brought up to date, each at its own pace. */
export const cleanArchive = async (deps: RunDeps, plan: RunPlan): Promise<RunOutcome> => {
  const discovered = await discover(deps, plan.signal);
  deps.reached('objects discovered');
  const walks = deps.writers.map((writer) => walk(deps, plan, writer, discovered.partitions));
  const failures = [...discovered.failures, ...(await Promise.all(walks)).flat()];
  return { failures, frontier: discovered.frontier };
};
