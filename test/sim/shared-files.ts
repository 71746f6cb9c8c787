import { type OpenSqliteFile, openSqliteFile, type SqliteFile } from '../../src/log/sqlite-file.ts';

/** The files of a seed's log, in memory: as durable as the seed. */
export type SharedFiles = {
  /** One connection for all simulated processes: what they ask of it is done within one call, so never two at a time. */
  readonly open: OpenSqliteFile;
  readonly close: () => void;
};

/**
 * Opening a file and preparing its statements was a third of a seed, and the system calls of locks and of the write-ahead log
 * another: neither can fail in simulated time, and a process that dies does nothing to a file.
 */
export const createSharedFiles = (): SharedFiles => {
  const files = new Map<string, Promise<SqliteFile>>();
  const openOnce: OpenSqliteFile = async (_path, kind) => {
    const file = await openSqliteFile(':memory:', kind);
    const statements = new Map<string, ReturnType<SqliteFile['prepare']>>();
    return {
      ...file,
      prepare: (sql) => statements.getOrInsertComputed(sql, file.prepare),
    };
  };
  return {
    open: async (path, kind) => {
      const file = await files.getOrInsertComputed(path, () => openOnce(path, kind));
      // It outlives who has it open.
      return { ...file, close: () => {} };
    },
    close: () => {
      for (const file of files.values()) void file.then(({ close }) => close());
    },
  };
};
