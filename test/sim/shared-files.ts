import { type OpenSqliteFile, openSqliteFile, type SqliteFile } from '../../src/log/sqlite-file.ts';

/** The files of a seed's log, in memory: as durable as the seed. */
export type SharedFiles = {
  /** One connection for all simulated processes: what they ask of it is done within one call, so never two at a time. */
  readonly open: OpenSqliteFile;
  readonly close: () => void;
};

type Prepared = ReturnType<SqliteFile['prepare']>;

/** Polls ask the same again and again: until something is written, the one connection would answer the same. */
const createAnswers = () => {
  const answers = new Map<string, ReturnType<Prepared['values']>>();
  return {
    forget: () => answers.clear(),
    of: (sql: string, statement: Prepared): Prepared => {
      const own: Readonly<Record<string, unknown>> = {
        values: (...params: Parameters<Prepared['values']>) =>
          answers.getOrInsertComputed(`${sql} ${params.join(' ')}`, () => statement.values(...params)),
        run: (...params: Parameters<Prepared['run']>) => {
          answers.clear();
          return statement.run(...params);
        },
      };
      return new Proxy(statement, {
        get: (_target, name) => {
          const member = own[name.toString()];
          if (member === undefined) throw new Error(`the log asks its files for ${name.toString()} now: add it here`);
          return member;
        },
      });
    },
  };
};

/**
 * Opening a file and preparing its statements was a third of a seed, and the system calls of locks and of the write-ahead log
 * another: neither can fail in simulated time, and a process that dies does nothing to a file.
 */
export const createSharedFiles = (): SharedFiles => {
  const files = new Map<string, Promise<SqliteFile>>();
  const openOnce: OpenSqliteFile = async (_path, kind) => {
    const file = await openSqliteFile(':memory:', kind);
    const statements = new Map<string, Prepared>();
    const answers = createAnswers();
    return {
      ...file,
      prepare: (sql) => statements.getOrInsertComputed(sql, () => answers.of(sql, file.prepare(sql))),
      transaction: (work) => {
        try {
          return file.transaction(work);
        } finally {
          // It may have been rolled back.
          answers.forget();
        }
      },
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
