import { runQuery } from '../db/query.ts';
import { printRows } from '../table.ts';
import { commandContext, type Format, say } from './context.ts';

type Options = { readonly limit: number; readonly format: Format };

export const query = async (sql: string, { limit, format }: Options): Promise<number> => {
  const { config, logger } = commandContext('query');
  const result = await runQuery({ config, logger, sql, limit });
  process.stdout.write(`${printRows(result, format)}\n`);
  if (result.truncated) say(`Only the first ${limit} rows are shown; --limit raises that.`);
  return 0;
};
