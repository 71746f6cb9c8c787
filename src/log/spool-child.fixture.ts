import { writeSync } from 'node:fs';
import { createLogger } from '../logger.ts';
import { withSpool } from './spool.ts';
import { openMoodyLog } from './spool-faults.fixture.ts';

/**
 * Another process with a spool, to be killed: `<dir>`. Its broker is down at first, then well and down by turns, so that it
 * spools and forwards all the time. Prints one line an acked record, at once: `spool <value>` or `broker <value>`.
 */
const [dir = ''] = process.argv.slice(2);

const CALLERS = 4;
const TURN_MS = 60;
const FILLER = 'x'.repeat(500);

const log = await openMoodyLog(dir);
log.setMood('down');
const inlet = await withSpool(log, {
  dir,
  maxBytes: 2 ** 30,
  deadlineMs: 500,
  logger: createLogger('silent', 'child'),
});
setInterval(() => log.setMood(Math.random() < 0.3 ? 'down' : 'well'), TURN_MS);

let next = 0;
const appendForever = async () => {
  for (;;) {
    const values = Array.from({ length: 1 + (next % 7) }, () => `${process.pid}-${next++}`);
    const records = values.map((value) => ({ key: value, value: new TextEncoder().encode(`${value} ${FILLER}`) }));
    const { durability } = await inlet.append(records);
    writeSync(1, values.map((value) => `${durability} ${value}\n`).join(''));
  }
};
await Promise.all(Array.from({ length: CALLERS }, appendForever));
