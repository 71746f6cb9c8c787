import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../config.ts';
import { createLogger } from '../logger.ts';
import { pinRow } from './pin-store/contract-rows.ts';
import { openPinStores } from './pin-store/open.ts';
import { runQuery } from './query.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinflow-query-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const logger = createLogger('silent', 'test');
const sql = 'select count(*) as n from pinkeyspace.userposts';

describe('runQuery', () => {
  test('asks the embedded store, new or beside one that is open', async () => {
    const config = readConfig({ DATA_DIR: dir });
    expect((await runQuery({ config, logger, sql, limit: 1 })).rows).toEqual([[0]]);
    const [store] = openPinStores(config, logger);
    await store?.upsert([pinRow()]);
    expect((await runQuery({ config, logger, sql, limit: 1 })).rows).toEqual([[1]]);
    await store?.close();
  });

  test('needs a Trino over Cassandra', async () => {
    const config = readConfig({ DATA_DIR: dir, CASSANDRA_CONTACT_POINTS: '127.0.0.1:1' });
    const asked = runQuery({ config, logger, sql, limit: 1 });
    await expect(asked).rejects.toMatchObject({ code: 'query', message: expect.stringContaining('TRINO_URL') });
  });
});
