import { Database } from 'bun:sqlite';
import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pinStoreContract } from './contract.ts';
import { pinRow } from './contract-rows.ts';
import { openSqlitePinStore } from './sqlite.ts';

const root = mkdtempSync(join(tmpdir(), 'pinflow-pin-store-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const names = { keyspace: 'pinkeyspace', catalog: 'cassandra' };
const open = (dir: string) => openSqlitePinStore({ dir: join(root, dir), ...names });

pinStoreContract('sqlite', () => open('contract'));

describe('the embedded pin store', () => {
  test('lets the later log offset win between versions of the same write timestamp', async () => {
    const store = open('ties');
    await store.migrate();
    const earlier = pinRow({ writeTimestamp: 5, title: 'z' });
    const later = pinRow({ writeTimestamp: 5, title: 'a', uniqueId: earlier.uniqueId });
    for (const rows of [[earlier], [later], [earlier]]) await store.upsert(rows);
    expect(await store.get(earlier.uniqueId)).toEqual(later);
    await store.close();
  });

  test('has after kill -9 whatever an upsert had resolved for', async () => {
    const dir = join(root, 'killed');
    const script = `
      import { openSqlitePinStore } from ${JSON.stringify(join(import.meta.dir, 'sqlite.ts'))};
      import { pinRow } from ${JSON.stringify(join(import.meta.dir, 'contract-rows.ts'))};
      const store = openSqlitePinStore({ dir: ${JSON.stringify(dir)}, keyspace: 'k', catalog: 'c' });
      await store.migrate();
      for (;;) {
        const rows = [pinRow(), pinRow(), pinRow()];
        await store.upsert(rows);
        process.stdout.write(rows.map((row) => row.uniqueId + '\\n').join(''));
      }`;
    const file = join(root, 'writer.ts');
    writeFileSync(file, script);
    const child = Bun.spawn([process.execPath, file], { stdout: 'pipe', stderr: 'inherit' });
    let printed = '';
    for await (const chunk of child.stdout) {
      printed += new TextDecoder().decode(chunk);
      if (printed.length > 20_000) child.kill('SIGKILL');
    }
    await child.exited;
    const store = openSqlitePinStore({ dir, ...names });
    const resolved = printed.split('\n').slice(0, -1);
    expect(resolved.length).toBeGreaterThan(500);
    for (const id of resolved) expect(await store.get(id)).not.toBeNull();
    // An upsert is all of its rows or none.
    expect((await store.count()) % 3).toBe(0);
    await store.close();
  });

  test('is shared by several stores that write at once', async () => {
    const stores = [open('shared'), open('shared')];
    await Promise.all(stores.map((store) => store.migrate()));
    await Promise.all(stores.flatMap((store) => Array.from({ length: 20 }, () => store.upsert([pinRow(), pinRow()]))));
    for (const store of stores) expect(await store.count()).toBe(80);
    for (const store of stores) await store.close();
  });

  test('refuses a file that a newer program wrote', async () => {
    const store = open('newer');
    await store.migrate();
    const db = new Database(store.location);
    db.run('PRAGMA user_version = 99');
    db.close();
    await expect(store.migrate()).rejects.toMatchObject({
      code: 'config',
      message: expect.stringContaining('version 99'),
    });
    await store.close();
  });

  test('says that a file which is no database cannot be used', async () => {
    const store = open('broken');
    await store.close();
    rmSync(`${store.location}-wal`, { force: true });
    writeFileSync(store.location, 'this is no database'.repeat(1000));
    expect(() => open('broken')).toThrow(/broken.*DATA_DIR/);
  });
});
