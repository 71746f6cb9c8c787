import { Database as Sqlite } from 'bun:sqlite';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archivePartitions, listManifest } from './blob/archive.ts';
import { readArchiveObject } from './blob/archive-object.ts';
import type { BlobStore } from './blob/blob.ts';
import type { PinStore, PinVersion } from './db/pin-store/pin-store.ts';
import type { Database } from './db/postgres/open.ts';
import { speedVersions } from './db/postgres/speed-view.ts';
import type { PinLog } from './log/log.ts';
import { decodeRecord } from './pin/decode.ts';
import { writeTimestamp } from './pin/pin.ts';

/**
 * Proves promise 6: the ids of the log (as far as it still keeps them) are in the archive, and the archive, each batch view
 * and the speed view hold the same ids at the same version. Ids go through a temporary database on disk, so memory is
 * bounded whatever their number.
 */
export type Difference = {
  readonly uniqueId: string;
  readonly place: string;
  /** `missing` there, `stale` (an older version than the archive's), `extra` (the archive has not got it). */
  readonly problem: 'missing' | 'stale' | 'extra';
};

export type Reconciliation = {
  readonly equal: boolean;
  /** Distinct ids in each place. */
  readonly counts: Readonly<Record<string, number>>;
  /** Archive offsets that stand in no object, or in two; must be empty. */
  readonly chainBreaks: readonly string[];
  /** Records of the log behind the end of the archive: under way, not lost. */
  readonly notYetArchived: number;
  /** Lines of the archive that cannot become a pin; they are in the dead letter queue. */
  readonly rejects: number;
  readonly differences: number;
  readonly examples: readonly Difference[];
};

type Deps = {
  readonly log: PinLog;
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
  readonly database: Database;
};

const EXAMPLES = 20;
/** Records read from the log at once; at about 1 KB a record this is 5 MB. */
const LOG_READ = 5000;

/** Ids as 16 bytes: half the size of the text, and rows of a WITHOUT ROWID table stay on few pages. */
const idBytes = (uniqueId: string) => Buffer.from(uniqueId.replaceAll('-', ''), 'hex');
const idText = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

const openLedger = (places: readonly string[]) => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-reconcile-'));
  const db = new Sqlite(join(dir, 'ids.db'));
  const columns = places.map((_, i) => `p${i} INTEGER`).join(', ');
  db.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536');
  db.exec(`CREATE TABLE ids (id BLOB PRIMARY KEY, ${columns}) WITHOUT ROWID`);
  const record = (place: string) => {
    const column = `p${places.indexOf(place)}`;
    const upsert = db.query(
      `INSERT INTO ids (id, ${column}) VALUES (?, ?)
       ON CONFLICT (id) DO UPDATE SET ${column} = max(coalesce(${column}, 0), excluded.${column})`,
    );
    return db.transaction((versions: readonly PinVersion[]) => {
      for (const v of versions) upsert.run(idBytes(v.uniqueId), v.writeTimestamp);
    });
  };
  const close = () => {
    db.close();
    rmSync(dir, { recursive: true, force: true });
  };
  return { db, record, close };
};

type ArchiveScan = {
  readonly breaks: readonly string[];
  readonly rejects: number;
  readonly ends: ReadonlyMap<number, number>;
};

const scanArchive = async (
  store: BlobStore,
  record: (versions: readonly PinVersion[]) => void,
): Promise<ArchiveScan> => {
  const breaks: string[] = [];
  const ends = new Map<number, number>();
  let rejects = 0;
  for (const partition of await archivePartitions(store)) {
    let next: number | null = null;
    for await (const entry of listManifest(store, partition)) {
      if (next !== null && entry.firstOffset !== next) {
        breaks.push(
          `partition ${partition}: ${entry.key} starts at offset ${entry.firstOffset}, the chain is at ${next}`,
        );
      }
      next = entry.lastOffset + 1;
      const lines = await readArchiveObject(store, entry);
      const versions: PinVersion[] = [];
      for (const line of lines) {
        const decoded = decodeRecord(line.line, 0);
        if (!decoded.ok) rejects++;
        else {
          const { unique_id, receivedAtMicros } = decoded.value;
          versions.push({ uniqueId: unique_id, writeTimestamp: writeTimestamp(receivedAtMicros, line.offset) });
        }
      }
      record(versions);
    }
    ends.set(partition, next ?? 0);
  }
  return { breaks, rejects, ends };
};

const scanLog = async (log: PinLog, ends: ReadonlyMap<number, number>, record: (v: readonly PinVersion[]) => void) => {
  let notYetArchived = 0;
  for (const { partition, start, end } of await log.partitions()) {
    const archived = Math.min(end, ends.get(partition) ?? 0);
    notYetArchived += Math.max(0, end - Math.max(start, archived));
    for (let offset = start; offset < archived; ) {
      const records = await log.read({ partition, offset }, LOG_READ);
      const last = records.at(-1);
      if (last === undefined) break;
      record(
        records.flatMap((r) => {
          const decoded = r.offset < archived ? decodeRecord(r.value, r.timestamp) : null;
          if (!decoded?.ok) return [];
          const { unique_id, receivedAtMicros } = decoded.value;
          return { uniqueId: unique_id, writeTimestamp: writeTimestamp(receivedAtMicros, r.offset) };
        }),
      );
      offset = last.offset + 1;
    }
  }
  return notYetArchived;
};

/** Against the archive, the master data set. The log keeps only its newest records, so there nothing can be `missing`. */
const problemSql = (column: string, mayMiss: boolean) => `
  CASE WHEN p0 IS NULL AND ${column} IS NOT NULL THEN 'extra'
       WHEN ${column} IS NULL AND p0 IS NOT NULL AND ${mayMiss ? 0 : 1} THEN 'missing'
       WHEN ${column} < p0 AND ${mayMiss ? 0 : 1} THEN 'stale'
       WHEN ${column} > p0 THEN 'extra' END`;

const compare = (db: Sqlite, places: readonly string[]) => {
  const counts = Object.fromEntries(
    places.map((place, i) => [place, (db.query(`SELECT count(p${i}) AS n FROM ids`).get() as { n: number }).n]),
  );
  const examples: Difference[] = [];
  let differences = 0;
  places.forEach((place, i) => {
    if (i === 0) return;
    const problem = problemSql(`p${i}`, place === 'log');
    const where = `FROM ids WHERE ${problem} IS NOT NULL`;
    differences += (db.query(`SELECT count(*) AS n ${where}`).get() as { n: number }).n;
    const rows = db.query(`SELECT id, ${problem} AS problem ${where} LIMIT ${EXAMPLES}`).all();
    for (const row of rows as { id: Uint8Array; problem: Difference['problem'] }[]) {
      if (examples.length < EXAMPLES) examples.push({ uniqueId: idText(row.id), place, problem: row.problem });
    }
  });
  return { counts, differences, examples };
};

/**
 * Reads every place whole: minutes for millions of pins. What is under way shows as `missing`: ask when the pipeline is idle.
 * @throws PinflowError of whichever engine cannot be read
 */
export const reconcile = async ({ log, store, pinStores, database }: Deps): Promise<Reconciliation> => {
  const places = ['archive', 'log', 'speed', ...pinStores.map((s) => s.name)];
  const ledger = openLedger(places);
  try {
    const { breaks, rejects, ends } = await scanArchive(store, ledger.record('archive'));
    const notYetArchived = await scanLog(log, ends, ledger.record('log'));
    const speed = ledger.record('speed');
    for await (const versions of speedVersions(database)) speed(versions);
    for (const pinStore of pinStores) {
      const record = ledger.record(pinStore.name);
      for await (const versions of pinStore.versions()) record(versions);
    }
    const { counts, differences, examples } = compare(ledger.db, places);
    const equal = differences === 0 && breaks.length === 0 && notYetArchived === 0;
    return { equal, counts, chainBreaks: breaks, notYetArchived, rejects, differences, examples };
  } finally {
    ledger.close();
  }
};
