import { describe } from 'bun:test';
import { freshName } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { createLogger } from '../logger.ts';
import { logContract } from './contract.ts';
import { openKafkaLog } from './kafka.ts';
import type { PinLog } from './log.ts';

const server = await testServer('kafka');
const logger = createLogger(process.env.LOG ?? 'silent', 'test');

describe.skipIf('skip' in server)('on a real broker', () => {
  logContract(
    'kafka',
    async ({ partitions }) => {
      const config = readConfig({ ...server.settings });
      const topic = freshName('pins');
      const opened: PinLog[] = [];
      const open = async () => {
        const log = await openKafkaLog(config, { topic, logger, partitions });
        opened.push(log);
        return log;
      };
      return {
        log: await open(),
        reopen: open,
        cleanup: async () => {
          await Promise.all(opened.map((log) => log.close()));
        },
      };
    },
    { lastTimestamp: false },
  );
});
