import { entryOfObject, OBJECT_PREFIX } from '../blob/archive.ts';
import { readArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import type { Database } from '../db/postgres/open.ts';
import type { PinLog } from '../log/log.ts';
import { decodeRecord } from '../pin/decode.ts';

/** What one place holds of what was acked. */
export type Place = {
  readonly place: string;
  /** Records, lines or rows. */
  readonly stored: number;
  readonly ids: number;
  /** Acked ids that are not there in their last version. */
  readonly lost: number;
  /** Of the archive: offsets in two objects. Of a view: rows, or counts of its windows, beyond what the log has. */
  readonly duplicated: number;
};

/** The `index` of the last acked version of each id. */
type Acked = ReadonlyMap<string, number>;

type Engines = {
  readonly log: PinLog;
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
  readonly database: Database;
};

/** Newest version of each id by the rule of the views: `received_at` decides. */
type Newest = Map<string, { readonly receivedAtMicros: number; readonly index: number }>;

const LOG_READ = 5000;
/** Look-ups of a batch view under way at once. */
const GETS_AT_ONCE = 32;

const note = (newest: Newest, value: Uint8Array): void => {
  const decoded = decodeRecord(value, 0);
  if (!decoded.ok) return;
  const { unique_id, receivedAtMicros, index } = decoded.value;
  const known = newest.get(unique_id);
  if (known === undefined || known.receivedAtMicros <= receivedAtMicros)
    newest.set(unique_id, { receivedAtMicros, index });
};

const lostOf = (acked: Acked, indexOf: (id: string) => number | undefined): number => {
  let lost = 0;
  for (const [id, index] of acked) if (indexOf(id) !== index) lost++;
  return lost;
};

type Offsets = Map<number, Set<number>>;

const readLog = async (log: PinLog) => {
  const newest: Newest = new Map();
  const offsets: Offsets = new Map();
  let stored = 0;
  for (const { partition, start, end } of await log.partitions()) {
    const seen = new Set<number>();
    for (let offset = start; offset < end; ) {
      const records = await log.read({ partition, offset }, LOG_READ);
      for (const record of records) {
        seen.add(record.offset);
        note(newest, record.value);
      }
      stored += records.length;
      offset = (records.at(-1)?.offset ?? end) + 1;
    }
    offsets.set(partition, seen);
  }
  return { newest, offsets, stored };
};

/** By the objects themselves, not by their manifest: one that nobody knows of would show as duplicated offsets. */
const tallyArchive = async (store: BlobStore, acked: Acked, logged: Offsets): Promise<Place> => {
  const newest: Newest = new Map();
  const missing = new Map([...logged].map(([partition, offsets]) => [partition, new Set(offsets)]));
  let [stored, duplicated] = [0, 0];
  for await (const { key } of store.list({ prefix: OBJECT_PREFIX })) {
    const object = await store.head(key);
    if (object === null) continue;
    const entry = entryOfObject(object);
    for (const { offset, line } of await readArchiveObject(store, entry)) {
      stored++;
      if (missing.get(entry.partition)?.delete(offset) !== true) duplicated++;
      note(newest, line);
    }
  }
  const offsetsLost = missing.values().reduce((sum, offsets) => sum + offsets.size, 0);
  const lost = Math.max(
    offsetsLost,
    lostOf(acked, (id) => newest.get(id)?.index),
  );
  return { place: 'archive', stored, ids: newest.size, lost, duplicated };
};

const tallyBatchView = async (pinStore: PinStore, acked: Acked, ids: number): Promise<Place> => {
  const queue = acked.entries();
  let lost = 0;
  const look = async () => {
    for (const [id, index] of queue) if ((await pinStore.get(id))?.indexNo !== index) lost++;
  };
  await Promise.all(Array.from({ length: GETS_AT_ONCE }, look));
  const stored = await pinStore.count();
  return { place: `batch view (${pinStore.name})`, stored, ids: stored, lost, duplicated: Math.max(0, stored - ids) };
};

/** The windows count each record of the log once: a batch that was counted twice shows there, as rows would not show it. */
const tallySpeedView = async ({ sql }: Database, acked: Acked, ids: number, records: number): Promise<Place> => {
  const rows = await sql<{ unique_id: string; index_no: number }[]>`select unique_id, index_no from pins`;
  const indexes = new Map(rows.map((row) => [row.unique_id, row.index_no]));
  const [windows] = await sql<{ pins: number }[]>`
    select coalesce(sum(pins), 0)::int as pins from pin_error_windows where field = ''`;
  const duplicated = Math.max(0, (windows?.pins ?? 0) - records) + Math.max(0, rows.length - ids);
  return {
    place: 'speed view',
    stored: rows.length,
    ids: indexes.size,
    lost: lostOf(acked, (id) => indexes.get(id)),
    duplicated,
  };
};

/** Counts every place whole, when nothing writes any more. Holds all ids in memory: some 100 bytes each. */
export const tally = async ({ log, store, pinStores, database }: Engines, acked: Acked): Promise<readonly Place[]> => {
  const { newest, offsets, stored } = await readLog(log);
  const logged: Place = {
    place: 'log',
    stored,
    ids: newest.size,
    lost: lostOf(acked, (id) => newest.get(id)?.index),
    duplicated: 0,
  };
  const views: Place[] = [];
  for (const pinStore of pinStores) views.push(await tallyBatchView(pinStore, acked, newest.size));
  return [
    logged,
    await tallyArchive(store, acked, offsets),
    ...views,
    await tallySpeedView(database, acked, newest.size, stored),
  ];
};
