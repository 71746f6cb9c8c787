import { readConfig } from './config.ts';
import { runQuery } from './db/query.ts';
import { messageOf } from './errors.ts';
import { createLogger } from './logger.ts';
import { jsonValue } from './table.ts';

/**
 * The process behind the dashboard's SQL over the batch view: one question on stdin, one answer on stdout. SQLite computes in the
 * thread that asks and cannot be interrupted; a process can be ended.
 */
export type ChildQuestion = { readonly sql: string; readonly limit: number };
export type ChildAnswer =
  | { readonly columns: readonly string[]; readonly rows: readonly (readonly unknown[])[]; readonly truncated: boolean }
  | { readonly error: string };

const answer = async (): Promise<ChildAnswer> => {
  try {
    const { sql, limit } = (await Bun.stdin.json()) as ChildQuestion;
    const { columns, rows, truncated } = await runQuery({
      config: readConfig(),
      logger: createLogger('silent', 'query'),
      sql,
      limit,
    });
    return { columns, rows: rows.map((row) => row.map(jsonValue)), truncated };
  } catch (error) {
    return { error: messageOf(error) };
  }
};

await Bun.write(Bun.stdout, JSON.stringify(await answer()));
// A driver's timers must not hold up an answer that is there.
process.exit(0);
