import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../config.ts';
import { createLogger } from '../../logger.ts';
import { openPinStores } from './open.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinflow-open-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const opened = async (env: Record<string, string>) => {
  const stores = openPinStores(readConfig({ DATA_DIR: dir, ...env }), createLogger('silent', 'test'));
  await Promise.all(stores.map((store) => store.close()));
  return stores.map(({ name, location }) => [name, location]);
};

describe('which pin stores', () => {
  test('the embedded one without any setting, each real one that is set, both when both are', async () => {
    const scylla = { SCYLLA_CONTACT_POINTS: '10.0.0.1, 10.0.0.2:9043' };
    const cassandra = { CASSANDRA_CONTACT_POINTS: '10.0.0.3', CQL_KEYSPACE: 'other' };
    expect(await opened({})).toEqual([['embedded', join(dir, 'pin-store.sqlite')]]);
    expect(await opened(scylla)).toEqual([['scylla', '10.0.0.1,10.0.0.2:9043/pinkeyspace']]);
    expect(await opened({ ...scylla, ...cassandra })).toEqual([
      ['scylla', '10.0.0.1,10.0.0.2:9043/other'],
      ['cassandra', '10.0.0.3/other'],
    ]);
  });
});
