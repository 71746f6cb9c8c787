import { sizeOf } from './group-commit.ts';
import type { NewRecord } from './log.ts';
import { type FileKind, openSqliteFile, type Row, type SqliteFile } from './sqlite-file.ts';

export type SpooledRecord = {
  /** Rises from record to record, and never comes twice in the life of the file. */
  readonly id: number;
  /** As the bound counts them, see `sizeOf`. */
  readonly bytes: number;
  readonly record: NewRecord;
};

export type SpoolTotals = { readonly records: number; readonly bytes: number };

/** The records of the spool in one file. All calls are synchronous; errors are PinflowErrors. */
export type SpoolStore = {
  /** All of `records`, in their order, in one fsynced transaction. */
  readonly append: (records: readonly NewRecord[]) => void;
  /** The first records with an id above `afterId`: at least one, if there is one, else within the bounds. */
  readonly read: (afterId: number, maxRecords: number, maxBytes: number) => readonly SpooledRecord[];
  /** Removes what `read` gave. */
  readonly remove: (batch: readonly SpooledRecord[]) => void;
  readonly totals: () => SpoolTotals;
  readonly close: () => void;
};

/**
 * AUTOINCREMENT, as the forwarder goes by ids: one that came again after the file was emptied would be passed over.
 * The totals are kept, not counted: a start must not wait for a walk through a full spool.
 */
const SPOOL_FILE: FileKind = {
  what: 'spool',
  applicationId: 0x70_66_6c_05,
  schemaVersion: 1,
  synchronous: 'FULL',
  create: (run) => {
    run(`CREATE TABLE records (
      id INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, value BLOB NOT NULL)`);
    run('CREATE TABLE totals (records INTEGER NOT NULL, bytes INTEGER NOT NULL)');
    run('INSERT INTO totals VALUES (0, 0)');
  },
};

const statementsOf = (file: SqliteFile) => ({
  insert: file.prepare('INSERT INTO records (bytes, key, headers, value) VALUES (?, ?, ?, ?)'),
  sizes: file.prepare('SELECT bytes FROM records WHERE id > ? ORDER BY id LIMIT ?'),
  read: file.prepare('SELECT id, bytes, key, headers, value FROM records WHERE id > ? ORDER BY id LIMIT ?'),
  remove: file.prepare('DELETE FROM records WHERE id BETWEEN ? AND ?'),
  totals: file.prepare('SELECT records, bytes FROM totals'),
  addTotals: file.prepare('UPDATE totals SET records = records + ?, bytes = bytes + ?'),
});

/** Null for none. */
const headersText = ({ headers }: NewRecord): string | null => {
  if (headers === undefined) return null;
  const text = JSON.stringify(headers);
  return text === '{}' ? null : text;
};

const headersOf = (text: unknown): NonNullable<NewRecord['headers']> =>
  text === null ? {} : (JSON.parse(text as string) as NonNullable<NewRecord['headers']>);

/** How many of the next records stay within `maxBytes`, at least one: told before they are read, so that memory is bounded. */
const countWithin = (sizes: readonly Row[], maxBytes: number): number => {
  let bytes = 0;
  for (const [i, [size]] of sizes.entries()) {
    bytes += size as number;
    if (bytes > maxBytes) return Math.max(1, i);
  }
  return sizes.length;
};

const toSpooled = ([id, bytes, key, headers, value]: readonly unknown[]): SpooledRecord => ({
  id: id as number,
  bytes: bytes as number,
  record: { key: key as string, value: value as Uint8Array, headers: headersOf(headers) },
});

const bytesOf = (batch: readonly SpooledRecord[]): number => batch.reduce((sum, { bytes }) => sum + bytes, 0);

/** @throws PinflowError `config` when the file is damaged or foreign, `disk_full`, `log_unavailable` */
export const openSpoolStore = async (path: string): Promise<SpoolStore> => {
  const file = await openSqliteFile(path, SPOOL_FILE);
  const { reading, transaction } = file;
  const statements = statementsOf(file);
  const [records, bytes] = reading(() => statements.totals.values()[0] as [number, number]);
  let totals: SpoolTotals = { records, bytes };

  /** Runs `work` and counts what it changed, in one transaction; the copy in memory follows once it is committed. */
  const change = (moreRecords: number, moreBytes: number, work: () => void): void => {
    transaction(() => {
      work();
      statements.addTotals.run(moreRecords, moreBytes);
    });
    totals = { records: totals.records + moreRecords, bytes: totals.bytes + moreBytes };
  };

  return {
    append: (added) => {
      const sizes = added.map(sizeOf);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      change(added.length, total, () => {
        for (const [i, record] of added.entries())
          statements.insert.run(sizes[i] as number, record.key, headersText(record), record.value);
      });
    },
    read: (afterId, maxRecords, maxBytes) =>
      reading(() => {
        const count = countWithin(statements.sizes.values(afterId, maxRecords), maxBytes);
        return count === 0 ? [] : statements.read.values(afterId, count).map(toSpooled);
      }),
    remove: (batch) => {
      const [first, last] = [batch[0], batch.at(-1)];
      if (first === undefined || last === undefined) return;
      change(-batch.length, -bytesOf(batch), () => statements.remove.run(first.id, last.id));
    },
    totals: () => totals,
    close: file.close,
  };
};
