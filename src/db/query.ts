import type { Config } from '../config.ts';
import { PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { openPinStores } from './pin-store/open.ts';
import type { QueryResult } from './pin-store/pin-store.ts';
import { queryTrino } from './trino.ts';

export type QueryRequest = {
  readonly config: Config;
  readonly logger: Logger;
  readonly sql: string;
  /** Most rows of the answer. */
  readonly limit: number;
};

/**
 * Read-only SQL over the batch view: by Trino where TRINO_URL is set, else by a pin store that answers SQL itself.
 * @throws PinflowError `query` with the engine's reason
 */
export const runQuery = async ({ config, logger, sql, limit }: QueryRequest): Promise<QueryResult> => {
  if (config.TRINO_URL !== undefined) return queryTrino(config, sql, limit);
  const stores = openPinStores(config, logger);
  try {
    const store = stores.find((each) => each.supports.sql);
    if (store === undefined) {
      const names = stores.map((each) => each.name).join(' and ');
      throw new PinflowError(
        'query',
        `${names} answers no SQL itself: set TRINO_URL to a Trino that has it as a catalog.`,
      );
    }
    // On a folder nothing was cleaned into yet, the answer is no rows rather than no table.
    await store.migrate();
    return await store.query(sql, limit);
  } finally {
    await Promise.all(stores.map((store) => store.close()));
  }
};
