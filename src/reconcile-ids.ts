import { Database as Sqlite } from 'bun:sqlite';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PinVersion } from './db/pin-store/pin-store.ts';

/** What stands where, for comparing places of any size: on disk, in bounded memory. */
export type IdLedger = {
  /** Notes versions found in a place. Of an id that comes again the highest stays. */
  readonly record: (place: string) => (versions: readonly PinVersion[]) => void;
  /** Sorts what was noted and compares each place with the first. Once, at the end. */
  readonly compare: (keptFrom?: KeptFrom) => IdComparison;
  /** Removes the files. */
  readonly close: () => void;
};

/** Places from which old versions were removed by policy: ids whose newest version is below need not be there. */
export type KeptFrom = Readonly<Record<string, number>>;

export type Difference = {
  readonly uniqueId: string;
  readonly place: string;
  /** `missing` there, `stale` (an older version than the archive's), `extra` (the archive has not got it). */
  readonly problem: 'missing' | 'stale' | 'extra';
};

export type IdComparison = {
  /** Distinct ids by place. */
  readonly counts: Readonly<Record<string, number>>;
  /** By place, without the first, which is what the others are compared with. */
  readonly differences: Readonly<Record<string, number>>;
  /** Some of them. */
  readonly examples: readonly Difference[];
};

export type Place = {
  readonly name: string;
  /** It keeps only what is new, so that nothing can be `missing` or `stale` there. */
  readonly isPartial?: boolean;
};

const EXAMPLES = 20;
/** SQLite's cache, which its sorter keeps to as well, KiB. */
const CACHE_KIB = 64 * 1024;

/** Ids as 16 bytes: half the size of the text. */
const idBytes = (uniqueId: string) => Buffer.from(uniqueId.replaceAll('-', ''), 'hex');
const idText = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** @param mayMiss SQL: true for an id that this place need not have at its newest version */
const problemSql = (column: string, mayMiss: string) => `
  CASE WHEN p0 IS NULL AND ${column} IS NOT NULL THEN 'extra'
       WHEN ${column} IS NULL AND p0 IS NOT NULL AND NOT (${mayMiss}) THEN 'missing'
       WHEN ${column} < p0 AND NOT (${mayMiss}) THEN 'stale'
       WHEN ${column} > p0 THEN 'extra' END`;

/** One row an id, its version in each place: an external sort, as a table looked up by random ids slows down once it outgrows memory. */
const fold = (db: Sqlite, places: readonly Place[]) => {
  const columns = places.map((_, i) => `max(CASE WHEN place = ${i} THEN version END) AS p${i}`);
  db.run(`CREATE TABLE ids AS SELECT id, ${columns.join(', ')} FROM seen GROUP BY id`);
};

const compare = (db: Sqlite, places: readonly Place[], keptFrom: KeptFrom): IdComparison => {
  fold(db, places);
  const examples: Difference[] = [];
  const differences: Record<string, number> = {};
  const columns = places.map((_, i) => `count(p${i}) AS n${i}`).join(', ');
  const counted = db.query(`SELECT ${columns} FROM ids`).get() as Record<string, number>;
  for (const [i, { name, isPartial = false }] of places.entries()) {
    if (i === 0) continue;
    const problem = problemSql(`p${i}`, isPartial ? '1' : `p0 < ${keptFrom[name] ?? 0}`);
    const where = `FROM ids WHERE ${problem} IS NOT NULL`;
    differences[name] = (db.query(`SELECT count(*) AS n ${where}`).get() as { n: number }).n;
    const rows = db.query(`SELECT id, ${problem} AS problem ${where} LIMIT ${EXAMPLES - examples.length}`).all();
    for (const row of rows as { id: Uint8Array; problem: Difference['problem'] }[]) {
      examples.push({ uniqueId: idText(row.id), place: name, problem: row.problem });
    }
  }
  return {
    counts: Object.fromEntries(places.map(({ name }, i) => [name, counted[`n${i}`] ?? 0])),
    differences,
    examples,
  };
};

/**
 * @param places the first is what the others are compared with
 * @param folder for about 100 bytes for each id of each place (Default: the system's folder of temporary files)
 */
export const openIdLedger = (places: readonly Place[], folder = tmpdir()): IdLedger => {
  const dir = mkdtempSync(join(folder, 'pinflow-reconcile-'));
  const db = new Sqlite(join(dir, 'ids.db'));
  for (const pragma of ['journal_mode = OFF', 'synchronous = OFF', 'temp_store = FILE', `cache_size = -${CACHE_KIB}`]) {
    db.run(`PRAGMA ${pragma}`);
  }
  db.run('CREATE TABLE seen (place INTEGER NOT NULL, id BLOB NOT NULL, version INTEGER NOT NULL)');
  const insert = db.query('INSERT INTO seen VALUES (?, ?, ?)');
  return {
    record: (name) => {
      const place = places.findIndex((known) => known.name === name);
      return db.transaction((versions: readonly PinVersion[]) => {
        for (const { uniqueId, writeTimestamp } of versions) insert.run(place, idBytes(uniqueId), writeTimestamp);
      });
    },
    compare: (keptFrom = {}) => compare(db, places, keptFrom),
    close: () => {
      db.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
};
