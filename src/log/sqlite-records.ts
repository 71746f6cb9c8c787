import type { Position } from '../pin/pin.ts';
import type { LogRecord, NewRecord, PartitionState } from './log.ts';
import { partitionOf } from './partitioner.ts';
import { type FileKind, openSqliteFile, type Row, type SqliteFile } from './sqlite-file.ts';

/** The records of one topic in one file. All calls are synchronous; errors are PinflowErrors. */
export type RecordStore = {
  /** Of the file, whatever was asked for when opening it. */
  readonly partitionCount: number;
  /** All calls in one fsynced transaction; answers one list of positions a call. */
  readonly append: (calls: readonly (readonly NewRecord[])[], timestamp: number) => readonly (readonly Position[])[];
  readonly states: () => readonly PartitionState[];
  /** Records from `from` on (from the first kept, if that is later): at least one, if there is one, else within the bounds. */
  readonly read: (from: Position, maxRecords: number, maxBytes: number) => readonly LogRecord[];
  readonly lastTimestamp: () => number | null;
  /** Bytes of the file that are in use: what is deleted is not given back to the disk, but used again. */
  readonly usedBytes: () => number;
  /** Timestamp of the first record kept, or null. */
  readonly firstTimestamp: (partition: number) => number | null;
  /** Deletes the first records of a partition that are below `beforeOffset` and older than `before`: one chunk at most. */
  readonly expire: (partition: number, beforeOffset: number, before: number) => number;
  readonly close: () => void;
};

/** Most records and bytes deleted in one transaction: appends wait no longer than for a commit of their own. */
const EXPIRE_RECORDS = 500;
const EXPIRE_BYTES = 8 * 1024 * 1024;

/**
 * A table a partition: appends then go to the right edge of a tree, retention eats from the left. The timestamp stands before
 * the value, so that reading it does not walk through the pages of a large value.
 * End offsets are kept, not derived: retention may have deleted every record.
 */
const recordFile = (partitions: number): FileKind => ({
  what: 'record',
  applicationId: 0x70_66_6c_01,
  schemaVersion: 1,
  synchronous: 'FULL',
  create: (run) => {
    run(`CREATE TABLE partitions (
      partition INTEGER PRIMARY KEY, start_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL, last_timestamp INTEGER)`);
    for (let partition = 0; partition < partitions; partition++) {
      run(`INSERT INTO partitions VALUES (${partition}, 0, 0, NULL)`);
      run(`CREATE TABLE records_${partition} (
        offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, value BLOB NOT NULL)`);
    }
  },
});

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/** What {@link headersText} wrote. */
export const headersOf = (text: unknown): Readonly<Record<string, string>> =>
  text === null ? NO_HEADERS : (JSON.parse(text as string) as Record<string, string>);

const toRecord = (partition: number, row: Row): LogRecord => ({
  partition,
  offset: row[0] as number,
  timestamp: row[1] as number,
  key: row[2] as string,
  headers: headersOf(row[3]),
  value: row[4] as Uint8Array,
});

/** Headers as a column holds them: null for none. */
export const headersText = ({ headers }: NewRecord): string | null => {
  if (headers === undefined) return null;
  const text = JSON.stringify(headers);
  return text === '{}' ? null : text;
};

const partitionStatements = (file: SqliteFile, partition: number) => ({
  insert: file.prepare(`INSERT INTO records_${partition} VALUES (?, ?, ?, ?, ?)`),
  sizes: file.prepare(`SELECT length(value) FROM records_${partition} WHERE offset >= ? ORDER BY offset LIMIT ?`),
  read: file.prepare(
    `SELECT offset, timestamp, key, headers, value FROM records_${partition} WHERE offset >= ? ORDER BY offset LIMIT ?`,
  ),
  first: file.prepare(`SELECT timestamp FROM records_${partition} ORDER BY offset LIMIT 1`),
  oldest: file.prepare(
    `SELECT offset, timestamp, length(value) FROM records_${partition} WHERE offset < ? ORDER BY offset LIMIT ${EXPIRE_RECORDS}`,
  ),
  expire: file.prepare(`DELETE FROM records_${partition} WHERE offset < ?`),
});

const topicStatements = (file: SqliteFile) => ({
  states: file.prepare('SELECT partition, start_offset, end_offset FROM partitions ORDER BY partition'),
  setEnd: file.prepare(
    'UPDATE partitions SET end_offset = ?, last_timestamp = max(coalesce(last_timestamp, 0), ?) WHERE partition = ?',
  ),
  setStart: file.prepare('UPDATE partitions SET start_offset = ? WHERE partition = ?'),
  lastTimestamp: file.prepare('SELECT max(last_timestamp) FROM partitions'),
  used: file.prepare(`SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size`),
});

const statementsOf = (file: SqliteFile) => {
  const ofPartitions = new Map<number, ReturnType<typeof partitionStatements>>();
  return {
    ...topicStatements(file),
    of: (partition: number) => {
      const known = ofPartitions.get(partition);
      if (known !== undefined) return known;
      const made = partitionStatements(file, partition);
      ofPartitions.set(partition, made);
      return made;
    },
  };
};

type Statements = ReturnType<typeof statementsOf>;

const statesOf = (statements: Statements): readonly PartitionState[] =>
  statements.states.values().map(([partition, start, end]) => ({
    partition: partition as number,
    start: start as number,
    end: end as number,
  }));

const appendCalls = (statements: Statements, calls: readonly (readonly NewRecord[])[], timestamp: number) => {
  // Read inside the transaction: another process may have appended since.
  const ends = statesOf(statements).map((state) => state.end);
  const touched = new Set<number>();
  const positions = calls.map((records) =>
    records.map((record): Position => {
      const partition = partitionOf(record.key, ends.length);
      const offset = ends[partition] as number;
      statements.of(partition).insert.run(offset, timestamp, record.key, headersText(record), record.value);
      ends[partition] = offset + 1;
      touched.add(partition);
      return { partition, offset };
    }),
  );
  for (const partition of touched) statements.setEnd.run(ends[partition] as number, timestamp, partition);
  return positions;
};

/** How many of the next records stay within `maxBytes`, at least one: told before they are read, so that memory is bounded. */
export const countWithin = (sizes: readonly Row[], maxBytes: number): number => {
  let bytes = 0;
  for (const [i, [size]] of sizes.entries()) {
    bytes += size as number;
    if (bytes > maxBytes) return Math.max(1, i);
  }
  return sizes.length;
};

const expireChunk = (statements: Statements, partition: number, beforeOffset: number, before: number): number => {
  const { oldest, expire } = statements.of(partition);
  let deleted = 0;
  let bytes = 0;
  let start = 0;
  for (const [offset, timestamp, size] of oldest.values(beforeOffset)) {
    if ((timestamp as number) >= before || bytes > EXPIRE_BYTES) break;
    bytes += size as number;
    start = (offset as number) + 1;
    deleted += 1;
  }
  if (deleted === 0) return 0;
  expire.run(start);
  statements.setStart.run(start, partition);
  return deleted;
};

/**
 * Opens the records of a topic.
 * @param partitions for a new file; an existing one keeps its own number
 * @throws PinflowError `config` when the file is damaged or foreign, `disk_full`, `log_unavailable`
 */
export const openRecordStore = async (path: string, partitions: number): Promise<RecordStore> => {
  const file = await openSqliteFile(path, recordFile(partitions));
  const statements = statementsOf(file);
  const { reading, transaction } = file;
  const first = (rows: readonly Row[]) => (rows[0]?.[0] ?? null) as number | null;
  return {
    partitionCount: reading(() => statesOf(statements).length),
    append: (calls, timestamp) => transaction(() => appendCalls(statements, calls, timestamp)),
    states: () => reading(() => statesOf(statements)),
    read: ({ partition, offset }, maxRecords, maxBytes) =>
      reading(() => {
        const { sizes, read } = statements.of(partition);
        const count = countWithin(sizes.values(offset, maxRecords), maxBytes);
        return count === 0 ? [] : read.values(offset, count).map((row) => toRecord(partition, row));
      }),
    lastTimestamp: () => reading(() => first(statements.lastTimestamp.values())),
    usedBytes: () => reading(() => first(statements.used.values()) ?? 0),
    firstTimestamp: (partition) => reading(() => first(statements.of(partition).first.values())),
    expire: (partition, beforeOffset, before) =>
      transaction(() => expireChunk(statements, partition, beforeOffset, before)),
    close: file.close,
  };
};
