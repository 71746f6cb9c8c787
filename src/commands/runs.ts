import { recentRuns } from '../db/postgres/ledger.ts';
import { openDatabase } from '../engines.ts';
import { commandContext, type Format, printObjects } from './context.ts';

/** The run ledger, newest first. */
export const runs = async ({ limit, format }: { readonly limit: number; readonly format: Format }): Promise<number> => {
  const { config, logger } = commandContext('runs');
  const { database, close } = await openDatabase(config, logger, 'runs');
  try {
    const empty = [
      'id',
      'reason',
      'status',
      'startedAt',
      'endedAt',
      'objects',
      'pins',
      'errors',
      'rejects',
      'bytes',
      'error',
    ];
    printObjects(await recentRuns(database, limit), format, empty);
    return 0;
  } finally {
    await close();
  }
};
