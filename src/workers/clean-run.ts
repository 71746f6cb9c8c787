import type { BlobStore } from '../blob/blob.ts';
import { type KnownObject, markObject, type ObjectProgress, type RunCounts } from '../db/postgres/ledger.ts';
import {
  completeRebuild,
  type Generation,
  generationOf,
  incompleteObjects,
} from '../db/postgres/ledger-generations.ts';
import type { HourRange } from '../db/postgres/ledger-pages.ts';
import { recordStep } from '../db/postgres/ledger-steps.ts';
import type { Database } from '../db/postgres/open.ts';
import { isPinflowError, messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { addQuality, countSetAside, type Quality } from '../pin/quality.ts';
import { type Discovered, discover } from './clean-discover.ts';
import type { CleanedObject, ObjectCleaner } from './clean-object.ts';
import { ofHours, pending } from './clean-pending.ts';
import type { Retrying } from './clean-retry.ts';
import { isStoreFailure, type RefusedRow, type StoreWriter } from './clean-upsert.ts';

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
  readonly objects: ObjectCleaner;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly retrying: Retrying;
  readonly reached: (point: CleanPoint) => void;
};

/** Counts of a run while it is under way. */
export type Tally = { -readonly [K in keyof RunCounts]: number };

/** One object that went into one store, for whoever watches the run. */
export type StepDone = { readonly store: string; readonly pins: number; readonly bytes: number };

export type RunPlan = {
  readonly runId: number;
  /** The stores to bring up to date. */
  readonly writers: readonly StoreWriter[];
  /** First offset by partition up to which every store is known to have everything: what is below is not asked for. */
  readonly floor: ReadonlyMap<number, number>;
  /** All objects of these hours, done or not. (Null: what the stores do not have.) */
  readonly hours: HourRange | null;
  readonly signal: AbortSignal;
  readonly tally: Tally;
  readonly quality: Quality;
  readonly onStep: (step: StepDone) => void;
};

export type RunOutcome = {
  /** Why parts of the run did not succeed, one sentence each; empty when all of it did (or `signal` aborted). */
  readonly failures: readonly string[];
  /** First offset by partition of the newest object known. */
  readonly frontier: ReadonlyMap<number, number>;
};

/** One store within a run. */
type Lane = { readonly writer: StoreWriter; readonly generation: Generation };

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

type Progress = ReturnType<typeof progressRow>;

const countStep = (
  { metrics }: RunDeps,
  { tally, quality, onStep }: RunPlan,
  step: { readonly store: string; readonly object: KnownObject; readonly progress: Progress },
  cleaned: CleanedObject,
  refused: readonly RefusedRow[],
) => {
  const { store, object, progress } = step;
  metrics.cleanedPins.inc({ store }, progress.pins);
  tally.objects++;
  tally.pins += progress.pins;
  tally.errors += progress.errors;
  tally.rejects += progress.rejects;
  tally.bytes += object.bytes;
  if (cleaned.kind === 'cleaned') addQuality(quality, cleaned.quality);
  else countSetAside(quality, 'damaged object');
  countSetAside(quality, 'refused by the store', refused.length);
  onStep({ store, pins: progress.pins, bytes: object.bytes });
};

type StepEnd = Pick<Progress, 'pins' | 'errors' | 'rejects'> & {
  readonly status: string;
  readonly error: string | null;
};

const record = (deps: RunDeps, plan: RunPlan, store: string, object: KnownObject, ms: number, end: StepEnd) => {
  const { partition, firstOffset, key, bytes } = object;
  const step = { runId: plan.runId, partition, firstOffset, store, key, bytes, ms: Math.round(ms), ...end };
  return deps.retrying('postgres', () => recordStep(deps.database, step), plan.signal);
};

/** One object into one store. False when `signal` aborted before it was finished: the next run does it anew. */
const cleanInto = (deps: RunDeps, plan: RunPlan, { writer, generation }: Lane, object: KnownObject) => {
  const { runId, signal } = plan;
  const stopTimer = deps.metrics.cleanObjectSeconds.startTimer({ store: writer.name });
  const startedAt = performance.now();
  return deps.objects.use(object, signal, async (cleaned) => {
    const refused = cleaned.kind === 'cleaned' ? await writer.upsert(cleaned.rows, signal, generation.generation) : [];
    if (refused === null) return false;
    deps.reached('object upserted');
    if (cleaned.kind === 'cleaned') await deps.objects.setRowsAside(object, cleaned.text, refused, signal);
    const progress = progressRow(object, cleaned, refused);
    const mark = { ...progress, store: writer.name, runId, generation: generation.generation };
    await deps.retrying('postgres', () => markObject(deps.database, mark), signal);
    deps.reached('object marked');
    stopTimer();
    countStep(deps, plan, { store: writer.name, object, progress }, cleaned, refused);
    const { status, pins, errors, rejects, reason: error } = progress;
    await record(deps, plan, writer.name, object, performance.now() - startedAt, {
      status,
      pins,
      errors,
      rejects,
      error,
    });
    return true;
  });
};

/** Errors that the next object would meet too. */
const endsWalk = (error: unknown) =>
  isPinflowError(error) &&
  ((error.code === 'pin_store_unavailable' && isStoreFailure(error)) ||
    ['config', 'disk_full', 'postgres_unavailable'].includes(error.code));

/**
 * The end of a rebuild: what stands at an older generation is in no object any more, and goes. Where the archive could not be
 * read whole nobody can say so: then the older rows stay.
 * @returns why they stayed, in a sentence
 */
const finishRebuild = async (deps: RunDeps, { signal }: RunPlan, { writer, generation }: Lane): Promise<string[]> => {
  const { database, logger } = deps;
  const lacking = await incompleteObjects(database, writer.name);
  const complete = () => completeRebuild(database, writer.name, generation.generation);
  if (lacking > 0) {
    await complete();
    return [
      `${writer.name}: rebuilt, but rows of before are kept: ${lacking} objects of the archive could not be read. Restore them and run \`clean --rebuild\` again.`,
    ];
  }
  const removed = await writer.sweep(generation.generation, signal);
  if (removed === null) return [];
  await complete();
  logger.info({ store: writer.name, generation: generation.generation, removed }, 'rebuild complete');
  return [];
};

const isRebuilding = ({ generation, completed }: Generation) => generation > completed;

const objectsFor = (deps: RunDeps, plan: RunPlan, { writer, generation }: Lane, partitions: readonly number[]) => {
  const { floor, hours, signal } = plan;
  if (hours !== null) return ofHours(deps, hours, signal);
  const rebuild = isRebuilding(generation) ? generation.generation : 0;
  return pending(deps, { store: writer.name, floor, partitions, rebuild, signal });
};

/**
 * The objects one by one; while one of them is written, the next is read and cleaned, so that the store does not wait for it. It is
 * written only after the one before: an older version must not come between what the query tables read and what they write.
 */
async function* readAhead({ objects: { begin } }: RunDeps, signal: AbortSignal, objects: AsyncGenerator<KnownObject>) {
  const begun = async () => {
    const { value } = await objects.next();
    return value && { object: value, letGo: begin(value, signal) };
  };
  let next = begun();
  try {
    for (;;) {
      const current = await next;
      if (current === undefined) return;
      next = begun();
      // It is thrown when its turn comes.
      next.catch(() => {});
      try {
        yield current.object;
      } finally {
        await current.letGo();
      }
    }
  } finally {
    const unused = await next.catch(() => undefined);
    await unused?.letGo();
    await objects.return(undefined);
  }
}

/** An object that is left to the next run: why, and whether the walk may go on. */
const postpone = async (deps: RunDeps, plan: RunPlan, store: string, object: KnownObject, error: unknown) => {
  const end = { status: 'failed', pins: 0, errors: 0, rejects: 0, error: messageOf(error) };
  // History only: the walk's own reason is what counts.
  await record(deps, plan, store, object, 0, end).catch(() => {});
  if (endsWalk(error)) throw error;
};

/** Brings one store up to date. @returns why it could not, in sentences */
const walk = async (deps: RunDeps, plan: RunPlan, writer: StoreWriter, { partitions, failures }: Discovered) => {
  const { signal } = plan;
  let postponed = 0;
  let inARow = 0;
  let example = '';
  try {
    await deps.retrying(writer.name, writer.prepare, signal);
    const lane = { writer, generation: await generationOf(deps.database, writer.name) };
    for await (const object of readAhead(deps, signal, objectsFor(deps, plan, lane, partitions))) {
      if (signal.aborted) return [];
      try {
        if (!(await cleanInto(deps, plan, lane, object))) return [];
        inARow = 0;
      } catch (error) {
        await postpone(deps, plan, writer.name, object, error);
        if (postponed++ === 0) example = `${object.key}: ${messageOf(error)}`;
        if (++inARow >= MAX_POSTPONED_IN_A_ROW) break;
      }
    }
    // What a manifest that was not read whole did not name must not be removed; nor all there is, for an archive with nothing in it.
    const isWhole = failures.length === 0 && partitions.length > 0 && postponed === 0 && plan.hours === null;
    if (isWhole && !signal.aborted && isRebuilding(lane.generation)) return await finishRebuild(deps, plan, lane);
  } catch (error) {
    return [`${writer.name}: ${messageOf(error)}`];
  }
  return postponed === 0 ? [] : [`${writer.name}: ${postponed} objects left to the next run, such as ${example}`];
};

/** One batch run: what is new in the archive into the ledger, then every store brought up to date, each at its own pace. */
export const cleanArchive = async (deps: RunDeps, plan: RunPlan): Promise<RunOutcome> => {
  const discovered = await discover(deps, plan.signal);
  deps.reached('objects discovered');
  const walks = plan.writers.map((writer) => walk(deps, plan, writer, discovered));
  const failures = [...discovered.failures, ...(await Promise.all(walks)).flat()];
  return { failures, frontier: discovered.frontier };
};
