import { afterAll, describe, expect, test } from 'bun:test';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isPinflowError } from '../errors.ts';
import { blobContract } from './contract.ts';
import { openFsBlobStore } from './fs.ts';

const folders: string[] = [];
const tempFolder = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pinflow-blob-'));
  folders.push(dir);
  return dir;
};
afterAll(() => Promise.all(folders.map((dir) => rm(dir, { recursive: true, force: true }))));

blobContract('fs', async () => {
  const dir = join(await tempFolder(), 'archive');
  return { store: openFsBlobStore({ dir }), other: openFsBlobStore({ dir }), close: async () => {} };
});

const bytes = (text: string) => new TextEncoder().encode(text);

/** Writers in processes of their own, all for the same keys; each answers what it created. */
const RACER = `
import { openFsBlobStore } from ${JSON.stringify(join(import.meta.dir, 'fs.ts'))};
const [dir, me, rounds] = [process.argv[1], process.argv[2], Number(process.argv[3])];
const store = openFsBlobStore({ dir });
for (let i = 0; i < rounds; i++) {
  const outcome = await store.put('race/dt=' + (i % 7) + '/' + i, new TextEncoder().encode(me + ' ' + i), { ifAbsent: true, metadata: { by: me } });
  if (outcome === 'created') console.log(i);
}
`;

const FILLER = `
import { readdir, rm, writeFile } from 'node:fs/promises';
import { openFsBlobStore } from ${JSON.stringify(join(import.meta.dir, 'fs.ts'))};
const dir = process.argv[1];
const store = openFsBlobStore({ dir });
await writeFile(dir + '/hog', new Uint8Array(150_000));
const put = () => store.put('a/b', new Uint8Array(150_000), { ifAbsent: true, metadata: { by: 'one' } });
const { code, retryable } = await put().catch((e) => e);
const left = await readdir(dir + '/.tmp');
await rm(dir + '/hog');
console.log(JSON.stringify({ code, retryable, left, again: await put() }));
`;

describe('the file object store', () => {
  test('one writer of several processes creates, and its metadata is that of its bytes', async () => {
    const dir = await tempFolder();
    const racers = ['a', 'b', 'c'].map((me) =>
      Bun.spawn([process.execPath, '-e', RACER, dir, me, '60'], { stdout: 'pipe', stderr: 'inherit' }),
    );
    const created = await Promise.all(
      racers.map(async (racer) => (await new Response(racer.stdout).text()).match(/\d+/g) ?? []),
    );
    expect(
      created
        .flat()
        .map(Number)
        .sort((x, y) => x - y),
    ).toEqual(Array.from({ length: 60 }, (_, i) => i));
    const store = openFsBlobStore({ dir });
    for (const [writer, rounds] of created.entries()) {
      for (const round of rounds) {
        const found = await store.get(`race/dt=${Number(round) % 7}/${round}`);
        const by = ['a', 'b', 'c'][writer] ?? '';
        expect(Buffer.from(found?.bytes ?? []).toString()).toBe(`${by} ${round}`);
        expect(found?.metadata).toEqual({ by });
      }
    }
    expect(await readdir(join(dir, '.tmp'))).toEqual([]);
  }, 30_000);

  test('a person can read an object with zcat', async () => {
    const dir = await tempFolder();
    const store = openFsBlobStore({ dir });
    const key = 'pins/dt=2026-11-23/hour=18/0-1.ndjson.gz';
    await store.put(key, Bun.gzipSync(bytes('{"a":1}\n')), { ifAbsent: true, metadata: { pins: '1' } });
    const zcat = Bun.spawnSync(['zcat', join(dir, key)]);
    expect(zcat.stdout.toString()).toBe('{"a":1}\n');
    expect(zcat.exitCode).toBe(0);
  });

  test('what a killed put left is neither listed nor in the way, and is removed once it is old', async () => {
    const dir = await tempFolder();
    await mkdir(join(dir, '.tmp'), { recursive: true });
    await writeFile(join(dir, '.tmp', 'old'), 'half an obj');
    await writeFile(join(dir, '.tmp', 'young'), 'half an obj');
    const longAgo = new Date(Date.now() - 2 * 3_600_000);
    await utimes(join(dir, '.tmp', 'old'), longAgo, longAgo);
    // Killed after the metadata was linked, before the object was.
    await mkdir(join(dir, 'a'));
    await writeFile(join(dir, 'a', `.b.${'0'.repeat(64)}`), '{"by":"the dead"}');
    const store = openFsBlobStore({ dir });
    expect(await store.put('a/b', bytes('x'), { ifAbsent: true, metadata: { by: 'the living' } })).toBe('created');
    expect((await store.head('a/b'))?.metadata).toEqual({ by: 'the living' });
    expect(await Array.fromAsync(store.list({ prefix: '' }))).toEqual([{ key: 'a/b', size: 1 }]);
    expect(await readdir(join(dir, '.tmp'))).toEqual(['young']);
  });

  test('files that people put there under other names are not objects', async () => {
    const dir = await tempFolder();
    const store = openFsBlobStore({ dir });
    await store.put('a/b', bytes('x'), { ifAbsent: true });
    await writeFile(join(dir, 'a', 'read me'), 'hello');
    await writeFile(join(dir, 'a', 'b~'), 'hello');
    expect(await Array.fromAsync(store.list({ prefix: 'a/' }))).toEqual([{ key: 'a/b', size: 1 }]);
  });

  test('a folder that cannot be used says so and which one; once it can, the same call succeeds', async () => {
    const dir = join(await tempFolder(), 'archive');
    await writeFile(dir, 'a file where the folder should be');
    const store = openFsBlobStore({ dir });
    for (const call of [() => store.check(), () => store.put('pins/a', bytes('x'), { ifAbsent: true })]) {
      const error = await call().catch((e) => e);
      expect(isPinflowError(error, 'blob_unavailable') && !error.retryable).toBe(true);
      expect(error.message).toContain(dir);
    }
    await rm(dir);
    await store.check();
    expect(await store.put('pins/a', bytes('x'), { ifAbsent: true })).toBe('created');
  });

  test('a full disk is `disk_full`; with room again the same put succeeds', async () => {
    const dir = await tempFolder();
    // A small disk in a namespace of its own: needs no rights, but a Linux that allows it.
    const onSmallDisk = (command: string) =>
      Bun.spawnSync(['unshare', '-rm', 'sh', '-c', `mount -t tmpfs -o size=256k none ${dir} && ${command}`], {
        env: { ...process.env, SCRIPT: FILLER, DIR: dir },
      });
    const possible = process.platform === 'linux' && onSmallDisk('true').exitCode === 0;
    if (!possible) return console.warn('skipped: no user namespaces here, so no disk to fill');
    const run = onSmallDisk(`${process.execPath} -e "$SCRIPT" "$DIR"`);
    expect(run.stderr.toString()).toBe('');
    expect(JSON.parse(run.stdout.toString())).toEqual({
      code: 'disk_full',
      retryable: true,
      left: [],
      again: 'created',
    });
  });
});
