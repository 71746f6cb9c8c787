import { archivePartitions, listManifest, OBJECT_PREFIX } from '../../src/blob/archive.ts';
import { archiveLine } from '../../src/blob/archive-line.ts';
import { readArchiveObject } from '../../src/blob/archive-object.ts';
import type { Blob } from '../../src/blob/blob.ts';
import { countWindows, foldPins, type SpeedPin } from '../../src/db/postgres/speed-batch.ts';
import { streamOffsets } from '../../src/db/postgres/speed-view.ts';
import { messageOf } from '../../src/errors.ts';
import { openLetters } from '../../src/log/dlq.ts';
import type { LogRecord } from '../../src/log/log.ts';
import { ARCHIVE_GROUP } from '../../src/log/names.ts';
import { cleanPin } from '../../src/pin/clean.ts';
import { decodeRecord } from '../../src/pin/decode.ts';
import { writeTimestamp } from '../../src/pin/pin.ts';
import { reconcile } from '../../src/reconcile.ts';
import { TOPIC } from './fleet.ts';
import { type Objects, openMemoryBlobStore } from './memory-blob.ts';
import type { CheckCommit } from './ports.ts';
import type { SimPostgres } from './postgres.ts';
import type { Sim } from './sim.ts';

/** The log as it is at the end, and what follows from it for every view. */
type Truth = {
  readonly records: readonly LogRecord[];
  readonly pins: readonly SpeedPin[];
  /** Positions of what can be no pin, as `<partition>/<offset>`. */
  readonly rejects: ReadonlySet<string>;
  /** The version of each id that must be shown. */
  readonly last: ReadonlyMap<string, SpeedPin>;
};

const placeOf = ({ partition, offset }: { partition: number; offset: number }) => `${partition}/${offset}`;

const readTruth = async ({ observer }: Sim): Promise<Truth> => {
  const records: LogRecord[] = [];
  for (const { partition, end } of await observer.partitions()) {
    records.push(...(await observer.read({ partition, offset: 0 }, end)));
  }
  const rejects = new Set<string>();
  const pins = records.flatMap((record): SpeedPin[] => {
    const decoded = decodeRecord(record.value, record.timestamp);
    if (!decoded.ok) {
      rejects.add(placeOf(record));
      return [];
    }
    const cleaned = cleanPin(decoded.value);
    const { partition, offset } = record;
    const version = writeTimestamp(cleaned.receivedAtMicros, offset);
    return [{ ...cleaned, position: { partition, offset }, source: null, writeTimestamp: version }];
  });
  return { records, pins, rejects, last: new Map(foldPins(pins).map((pin) => [pin.uniqueId, pin])) };
};

type Entry = { readonly key: string; readonly firstOffset: number; readonly lastOffset: number };
/** Commits ask for all entries of the manifest again and again, and what was put never changes. */
const entries = new WeakMap<Blob, Entry>();
const entryOf = (blob: Blob): Entry =>
  entries.getOrInsertComputed(blob, () => JSON.parse(Buffer.from(blob.bytes).toString()) as Entry);

/** How far each partition of the archive goes without a gap: offsets below it are in objects that are there. */
export const archivedUpTo = (objects: Objects, partition: number): number => {
  let next = 0;
  for (const key of [...objects.keys()].filter((name) => name.startsWith(`manifest/${partition}/`)).sort()) {
    const entry = entryOf(objects.get(key) as Blob);
    if (entry.firstOffset > next || !objects.has(entry.key)) return next;
    next = entry.lastOffset + 1;
  }
  return next;
};

/** At any moment: an offset is committed only when all below it is where its group writes. */
export const createCheckCommit =
  (objects: Objects, postgres: SimPostgres | null, outside: Sim['world']['outside'], fail: Sim['fail']): CheckCommit =>
  async (group, partition, next) => {
    const written =
      group === ARCHIVE_GROUP
        ? archivedUpTo(objects, partition)
        : ((
            await outside(async () => (postgres ? streamOffsets(postgres.database, TOPIC) : new Map<number, number>()))
          ).get(partition) ?? 0);
    if (next > written)
      fail(`${group} commits offset ${next} of partition ${partition}, but only ${written} are written`);
  };

const checkAcks = ({ acks, fail }: Sim, { records }: Truth) => {
  const decoder = new TextDecoder();
  const titles = new Map<string, Set<string>>();
  for (const record of records) {
    const decoded = decodeRecord(record.value, record.timestamp);
    const text = decoder.decode(record.value);
    if (!decoded.ok) continue;
    const title = (JSON.parse(text) as { title: string }).title;
    titles.getOrInsertComputed(`${decoded.value.unique_id} ${title}`, () => new Set<string>()).add(placeOf(record));
  }
  for (const { uniqueId, title, position } of acks) {
    const places = titles.get(`${uniqueId} ${title}`);
    if (places === undefined) fail(`"${title}" of ${uniqueId} was acked and is not in the log`);
    else if (position !== null && !places.has(position))
      fail(`"${title}" was acked at ${position} and stands elsewhere`);
  }
};

const checkArchive = async ({ objects, fail }: Sim, { records }: Truth) => {
  const store = openMemoryBlobStore(objects);
  const lines = new Map<string, string>();
  const known = new Set<string>();
  for (const partition of await archivePartitions(store)) {
    let next = 0;
    for await (const entry of listManifest(store, partition)) {
      known.add(entry.key);
      if (entry.firstOffset !== next) fail(`${entry.key} begins at ${entry.firstOffset}, the chain is at ${next}`);
      next = entry.lastOffset + 1;
      for (const { offset, line } of await readArchiveObject(store, entry)) {
        if (lines.has(`${partition}/${offset}`)) fail(`offset ${partition}/${offset} is archived twice`);
        lines.set(`${partition}/${offset}`, Buffer.from(line).toString());
      }
    }
  }
  for (const key of objects.keys()) {
    if (key.startsWith(OBJECT_PREFIX) && !known.has(key))
      fail(`${key} is in no manifest: its offsets may be in two objects`);
  }
  for (const record of records) {
    const line = lines.get(placeOf(record));
    if (line === undefined) fail(`offset ${placeOf(record)} is not archived`);
    else if (line !== Buffer.from(archiveLine(record.value, record.timestamp)).toString())
      fail(`offset ${placeOf(record)} is archived as something else`);
  }
  if (lines.size !== records.length) fail(`${lines.size} lines are archived of ${records.length} records`);
};

type Shown = Pick<SpeedPin, 'uniqueId' | 'title' | 'writeTimestamp' | 'position'>;

const checkView = (fail: Sim['fail'], view: string, shown: readonly Shown[], { last }: Truth) => {
  const ids = new Set(shown.map(({ uniqueId }) => uniqueId));
  if (ids.size !== shown.length) fail(`${view} shows an id twice`);
  for (const id of last.keys()) if (!ids.has(id)) fail(`${view} does not show ${id}`);
  for (const pin of shown) {
    const wanted = last.get(pin.uniqueId);
    if (wanted === undefined) fail(`${view} shows ${pin.uniqueId}, which is not in the log`);
    else if (wanted.writeTimestamp !== pin.writeTimestamp || wanted.title !== pin.title)
      fail(`${view} shows "${pin.title}" for ${pin.uniqueId} and not the last, "${wanted.title}"`);
    else if (placeOf(wanted.position) !== placeOf(pin.position))
      fail(`${view}: ${pin.uniqueId} is not of ${placeOf(wanted.position)}`);
  }
};

const checkBatchViews = async ({ pinStores, fail }: Sim, truth: Truth) => {
  for (const store of pinStores) {
    const shown: Shown[] = [];
    for await (const versions of store.versions()) {
      for (const { uniqueId } of versions) {
        const row = await store.get(uniqueId);
        if (row !== null) shown.push(row);
      }
    }
    checkView(fail, `the batch view in ${store.name}`, shown, truth);
  }
};

const checkSpeedView = async ({ fail }: Sim, { database: { sql } }: SimPostgres, truth: Truth) => {
  const rows = await sql<{ id: string; title: string | null; ts: string; partition: number; offset: string }[]>`
    select unique_id as id, title, write_ts as ts, log_partition as partition, log_offset as offset from pins`;
  const shown = rows.map(
    ({ id, title, ts, partition, offset }): Shown => ({
      uniqueId: id,
      title,
      writeTimestamp: Number(ts),
      position: { partition, offset: Number(offset) },
    }),
  );
  checkView(fail, 'the speed view', shown, truth);
  const counted = await sql<{ slide: string; category: string; field: string; pins: string }[]>`
    select (extract(epoch from slide_start) * 1000000)::int8 as slide, category, field, pins from pin_error_windows`;
  const found = counted.map(({ slide, category, field, pins }) => `${slide} ${category} ${field}: ${pins}`).sort();
  const wanted = countWindows(truth.pins)
    .map(({ slideMicros, category, field, pins }) => `${slideMicros} ${category} ${field}: ${pins}`)
    .sort();
  if (!Bun.deepEquals(found, wanted)) fail(`the error windows are [${found}] and should be [${wanted}]`);
};

const checkDeadLetters = async ({ deadLetters, fail }: Sim, { rejects }: Truth) => {
  const letters = await openLetters(deadLetters);
  for (const stage of ['stream', 'clean']) {
    for (const place of rejects)
      if (!letters.has(`${stage}:${place}`)) fail(`${place} is no pin, and ${stage} sent no letter`);
  }
  for (const [id, letter] of letters) {
    const isWhole = letter.reason !== '' && letter.attempts >= 1 && letter.at !== '' && letter.position !== null;
    if (!isWhole) fail(`dead letter ${id} says too little: ${JSON.stringify(letter)}`);
    else if (letter.position !== null && !rejects.has(placeOf(letter.position)))
      fail(`dead letter ${id} is about a good pin`);
  }
};

const checkReconcile = async ({ observer: log, pinStores, objects, fail }: Sim, { database }: SimPostgres) => {
  const result = await reconcile({ log, pinStores, store: openMemoryBlobStore(objects), database });
  if (!result.equal) fail(`reconcile finds ${result.differences} differences: ${JSON.stringify(result.examples)}`);
};

/** All that must hold when the faults are over and nothing is under way. */
export const checkAll = async (sim: Sim): Promise<void> => {
  const { postgres } = sim;
  const truth = await readTruth(sim);
  const checks: (() => void | Promise<void>)[] = [() => checkAcks(sim, truth), () => checkArchive(sim, truth)];
  if (postgres !== null) {
    checks.push(
      () => checkBatchViews(sim, truth),
      () => checkSpeedView(sim, postgres, truth),
      () => checkDeadLetters(sim, truth),
      () => checkReconcile(sim, postgres),
    );
  }
  for (const check of checks) {
    try {
      await check();
    } catch (error) {
      sim.fail(messageOf(error));
    }
  }
};
