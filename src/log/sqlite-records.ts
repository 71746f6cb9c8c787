import type { Position } from '../pin/pin.ts';
import { sizeOf } from './group-commit.ts';
import type { LogRecord, NewRecord, PartitionState } from './log.ts';
import { partitionOf } from './partitioner.ts';
import { type FileKind, type OpenSqliteFile, openSqliteFile, type Row, type SqliteFile } from './sqlite-file.ts';

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
  /** What retention may delete first: the offset after the first batch kept, and the time of its commit. Null when none is kept. */
  readonly firstBatch: (partition: number) => { readonly end: number; readonly timestamp: number } | null;
  /** Deletes the first batches of a partition that are below `beforeOffset` and older than `before`: one chunk at most. @returns batches */
  readonly expire: (partition: number, beforeOffset: number, before: number) => number;
  readonly close: () => void;
};

/** Most batches and bytes deleted in one transaction: appends wait no longer than for a commit of their own. */
const EXPIRE_BATCHES = 500;
const EXPIRE_BYTES = 8 * 1024 * 1024;
/** A batch is closed before it passes this, as {@link sizeOf} counts: whoever reads one record reads its whole batch. */
const BATCH_BYTES = 1024 * 1024;

/**
 * As in Kafka, the records of a partition that came in one commit are one batch: a row a record costs half of what bulk
 * appends reach. A table a partition: appends then go to the right edge of a tree, retention eats from the left.
 * `keys`, `headers` (null when none of the records has any) and `sizes` are JSON arrays; `data` is the values, one after the
 * other, and stands last, so that looking at the rest does not walk through its pages.
 * End offsets are kept, not derived: retention may have deleted every record.
 */
const recordFile = (partitions: number): FileKind => ({
  what: 'record',
  applicationId: 0x70_66_6c_01,
  schemaVersion: 2,
  synchronous: 'FULL',
  pageBytes: 16_384,
  create: (run) => {
    run(`CREATE TABLE partitions (
      partition INTEGER PRIMARY KEY, start_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL, last_timestamp INTEGER)`);
    for (let partition = 0; partition < partitions; partition++) {
      run(`INSERT INTO partitions VALUES (${partition}, 0, 0, NULL)`);
      run(`CREATE TABLE batches_${partition} (
        first_offset INTEGER PRIMARY KEY, records INTEGER NOT NULL, timestamp INTEGER NOT NULL,
        keys TEXT NOT NULL, headers TEXT, sizes TEXT NOT NULL, data BLOB NOT NULL)`);
    }
  },
});

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

const partitionStatements = (file: SqliteFile, partition: number) => ({
  insert: file.prepare(`INSERT INTO batches_${partition} VALUES (?, ?, ?, ?, ?, ?, ?)`),
  /** The batch that holds an offset, or the next one. */
  read: file.prepare(`SELECT first_offset, timestamp, keys, headers, sizes, data FROM batches_${partition}
    WHERE first_offset >= coalesce((SELECT max(first_offset) FROM batches_${partition} WHERE first_offset <= ?1), ?1)
      AND first_offset + records > ?1 ORDER BY first_offset LIMIT 1`),
  first: file.prepare(
    `SELECT first_offset + records, timestamp FROM batches_${partition} ORDER BY first_offset LIMIT 1`,
  ),
  oldest: file.prepare(`SELECT first_offset + records, timestamp, length(data) FROM batches_${partition}
    WHERE first_offset + records <= ? ORDER BY first_offset LIMIT ${EXPIRE_BATCHES}`),
  expire: file.prepare(`DELETE FROM batches_${partition} WHERE first_offset < ?`),
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

/** Records in the order of their offsets, cut where a batch is full. */
const inBatches = (records: readonly NewRecord[]): readonly (readonly NewRecord[])[] => {
  const batches: NewRecord[][] = [];
  let bytes = BATCH_BYTES;
  for (const record of records) {
    const size = sizeOf(record);
    if (bytes + size > BATCH_BYTES) {
      batches.push([]);
      bytes = 0;
    }
    bytes += size;
    batches.at(-1)?.push(record);
  }
  return batches;
};

/** @returns the offset after the last of `records` */
const insertRecords = (
  { insert }: ReturnType<typeof partitionStatements>,
  start: number,
  timestamp: number,
  records: readonly NewRecord[],
): number => {
  let offset = start;
  for (const batch of inBatches(records)) {
    const keys = JSON.stringify(batch.map(({ key }) => key));
    const headers = batch.some((record) => record.headers !== undefined)
      ? JSON.stringify(batch.map((record) => record.headers ?? null))
      : null;
    const values = batch.map(({ value }) => value);
    const sizes = JSON.stringify(values.map((value) => value.byteLength));
    insert.run(offset, batch.length, timestamp, keys, headers, sizes, Buffer.concat(values));
    offset += batch.length;
  }
  return offset;
};

const appendCalls = (statements: Statements, calls: readonly (readonly NewRecord[])[], timestamp: number) => {
  // Read inside the transaction: another process may have appended since.
  const states = statesOf(statements);
  const added = states.map((): NewRecord[] => []);
  const positions = calls.map((records) =>
    records.map((record): Position => {
      const partition = partitionOf(record.key, states.length);
      const ofPartition = added[partition] as NewRecord[];
      return { partition, offset: (states[partition] as PartitionState).end + ofPartition.push(record) - 1 };
    }),
  );
  for (const { partition, end } of states) {
    const records = added[partition] as NewRecord[];
    if (records.length === 0) continue;
    statements.setEnd.run(insertRecords(statements.of(partition), end, timestamp, records), timestamp, partition);
  }
  return positions;
};

const recordsOf = (partition: number, row: Row): readonly LogRecord[] => {
  const [first, timestamp, keysText, headersText, sizesText, data] = row;
  const keys = JSON.parse(keysText as string) as readonly string[];
  const sizes = JSON.parse(sizesText as string) as readonly number[];
  const headers =
    headersText === null ? null : (JSON.parse(headersText as string) as readonly (LogRecord['headers'] | null)[]);
  let at = 0;
  return keys.map((key, i) => {
    const start = at;
    at += sizes[i] as number;
    return {
      partition,
      offset: (first as number) + i,
      timestamp: timestamp as number,
      key,
      headers: headers?.[i] ?? NO_HEADERS,
      value: (data as Uint8Array).subarray(start, at),
    };
  });
};

const readRecords = (
  { read }: ReturnType<typeof partitionStatements>,
  from: Position,
  maxRecords: number,
  maxBytes: number,
): readonly LogRecord[] => {
  const records: LogRecord[] = [];
  let bytes = 0;
  for (let next = from.offset; ; ) {
    const row = read.values(next)[0];
    if (row === undefined) return records;
    for (const record of recordsOf(from.partition, row)) {
      if (record.offset < next) continue;
      bytes += record.value.byteLength;
      if (records.length === maxRecords || (bytes > maxBytes && records.length > 0)) return records;
      records.push(record);
      next = record.offset + 1;
    }
  }
};

/** Whole batches only: one that holds a single record that is still needed stays. */
const expireChunk = (statements: Statements, partition: number, beforeOffset: number, before: number): number => {
  const { oldest, expire } = statements.of(partition);
  let deleted = 0;
  let bytes = 0;
  let start = 0;
  for (const [end, timestamp, size] of oldest.values(beforeOffset)) {
    if ((timestamp as number) >= before || bytes > EXPIRE_BYTES) break;
    bytes += size as number;
    start = end as number;
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
export const openRecordStore = async (
  path: string,
  partitions: number,
  openFile: OpenSqliteFile = openSqliteFile,
): Promise<RecordStore> => {
  const file = await openFile(path, recordFile(partitions));
  const statements = statementsOf(file);
  const { reading, transaction } = file;
  const first = (rows: readonly Row[]) => (rows[0]?.[0] ?? null) as number | null;
  return {
    partitionCount: reading(() => statesOf(statements).length),
    append: (calls, timestamp) => transaction(() => appendCalls(statements, calls, timestamp)),
    states: () => reading(() => statesOf(statements)),
    read: (from, maxRecords, maxBytes) =>
      reading(() => readRecords(statements.of(from.partition), from, maxRecords, maxBytes)),
    lastTimestamp: () => reading(() => first(statements.lastTimestamp.values())),
    usedBytes: () => reading(() => first(statements.used.values()) ?? 0),
    firstBatch: (partition) =>
      reading(() => {
        const row = statements.of(partition).first.values()[0];
        return row === undefined ? null : { end: row[0] as number, timestamp: row[1] as number };
      }),
    expire: (partition, beforeOffset, before) =>
      transaction(() => expireChunk(statements, partition, beforeOffset, before)),
    close: file.close,
  };
};
