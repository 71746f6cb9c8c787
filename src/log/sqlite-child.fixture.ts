import { writeSync } from 'node:fs';
import { isPinflowError, messageOf } from '../errors.ts';
import { createLogger } from '../logger.ts';
import { openSqliteLog } from './sqlite.ts';

/**
 * Another process on the same log, for tests that kill, suspend or starve it. Prints one line an event, at once:
 *
 * - `append <dir> <calls>`: `<partition> <offset> <value>` for each acked record, `error <code>` for a call that failed, at last `done`
 * - `consume <dir> <session ms> <batch ms>`: `assigned`, `batch`, `committed`, `fenced`, `revoked`, each with the partition
 */
const [mode, dir = '', third = '', fourth = ''] = process.argv.slice(2);

const say = (...words: readonly unknown[]) => writeSync(1, `${words.join(' ')}\n`);

const open = (sessionTimeoutMs?: number) =>
  openSqliteLog({
    dir,
    topic: 'pins',
    partitions: 3,
    retentionHours: 24,
    retentionBytes: 2 ** 40,
    maxPendingBytes: 2 ** 28,
    groups: [],
    logger: createLogger('silent', 'child'),
    sessionTimeoutMs,
  });

const CONCURRENT_CALLS = 8;
const FILLER = 'x'.repeat(300);

const append = async (calls: number) => {
  const log = await open();
  let next = 0;
  const appendOne = async () => {
    const id = `${process.pid}-${next++}`;
    const records = Array.from({ length: 1 + (next % 7) }, (_, i) => `${id}-${i}`);
    try {
      const positions = await log.append(
        records.map((value) => ({ key: value, value: new TextEncoder().encode(`${value} ${FILLER}`) })),
      );
      say(positions.map((p, i) => `${p.partition} ${p.offset} ${records[i]}`).join('\n'));
    } catch (error) {
      say('error', isPinflowError(error) ? error.code : messageOf(error));
    }
  };
  const caller = async () => {
    while (next < calls) await appendOne();
  };
  await Promise.all(Array.from({ length: CONCURRENT_CALLS }, caller));
  await log.close();
  say('done');
};

const consume = async (sessionMs: number, batchMs: number) => {
  const log = await open(sessionMs);
  const consumer = log.consume({
    group: 'g',
    maxRecords: 100,
    maxBytes: 1 << 20,
    handler: {
      assigned: async (partitions) => {
        for (const partition of partitions) say('assigned', partition);
        return new Map();
      },
      batch: async ({ partition, records }) => {
        say('batch', partition);
        await Bun.sleep(batchMs);
        try {
          await consumer.commit(partition, (records.at(-1)?.offset ?? 0) + 1);
          say('committed', partition);
        } catch (error) {
          if (!isPinflowError(error, 'fenced')) throw error;
          say('fenced', partition);
        }
      },
      revoked: async (partitions) => {
        for (const partition of partitions) say('revoked', partition);
      },
    },
  });
  await consumer.done;
};

if (mode === 'append') await append(Number(third));
else await consume(Number(third), Number(fourth));
