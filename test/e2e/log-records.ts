import { readConfig } from '../../src/config.ts';
import type { LogRecord } from '../../src/log/log.ts';
import { openLog } from '../../src/log/open.ts';
import { createLogger } from '../../src/logger.ts';
import type { Env } from './program.ts';

const READ_RECORDS = 1000;

/** All that the log of these settings holds, by our own reader, in the order of each partition. */
export const recordsOf = async (env: Env): Promise<readonly LogRecord[]> => {
  const log = await openLog(readConfig(env), { logger: createLogger('silent', 'test') });
  const all: LogRecord[] = [];
  for (const { partition, start, end } of await log.partitions()) {
    for (let offset = start; offset < end; ) {
      const records = await log.read({ partition, offset }, READ_RECORDS);
      all.push(...records);
      offset = (records.at(-1)?.offset ?? end) + 1;
    }
  }
  await log.close();
  return all;
};
