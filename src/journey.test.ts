import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from './config.ts';
import { openPinStores } from './db/pin-store/open.ts';
import { openPostgres } from './db/postgres/open.ts';
import { createJourney } from './journey.ts';
import { openLog } from './log/open.ts';
import { createLogger } from './logger.ts';

/** Over the real embedded log and pin store; Postgres is away, as in the first seconds of a new DATA_DIR. */
const logger = createLogger('silent', 'test');
const ID = '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35';
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-journey-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('a pin that was only accepted stands in the log, at its newest record, whatever the views say', async () => {
  const config = readConfig({ DATA_DIR: dir });
  const log = await openLog(config, { logger });
  const pinStores = openPinStores(config, logger);
  for (const store of pinStores) await store.migrate();
  const database = openPostgres({ url: 'postgres://nobody@127.0.0.1:1/none', logger, applicationName: 'test' });
  const journey = createJourney({ log, database, pinStores });
  const value = new TextEncoder().encode('{}');
  await log.append([{ key: ID, value }]);
  const [newest] = await log.append([{ key: ID, value }]);
  if (newest === undefined) throw new Error('nothing was appended');

  const found = await journey(ID);
  expect(found.log).toMatchObject({ state: 'present', row: newest });
  expect(found.speed.state).toBe('unavailable');
  expect(found.batch).toEqual([{ store: 'embedded', view: { state: 'absent' } }]);
  expect((await journey(crypto.randomUUID())).log).toEqual({ state: 'absent' });
  await Promise.all([log.close(), database.close(), ...pinStores.map((store) => store.close())]);
});
