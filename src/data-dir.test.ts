import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockOrThrow, readPostgresAddress, removePostgresAddress, tryLock, writePostgresAddress } from './data-dir.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-data-dir-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const holdInChild = async () => {
  const script = `
    import { lockOrThrow } from ${JSON.stringify(join(import.meta.dir, 'data-dir.ts'))};
    lockOrThrow(${JSON.stringify(dir)}, 'edge', 'pinflow test');
    console.log('held');
    setInterval(() => {}, 1000);`;
  const child = Bun.spawn(['bun', '-e', script], { stdout: 'pipe', stderr: 'inherit' });
  await child.stdout.getReader().read();
  return child;
};

test('a lock held by another process is refused with its pid and command', async () => {
  const child = await holdInChild();
  try {
    expect(tryLock(dir, 'edge', 'second')).toBeNull();
    expect(() => lockOrThrow(dir, 'edge', 'second')).toThrow(new RegExp(`process ${child.pid} \\(pinflow test`));
    expect(tryLock(dir, 'postgres', 'second')).not.toBeNull();
  } finally {
    child.kill('SIGKILL');
    await child.exited;
  }
});

test('kill -9 lets go of the lock', async () => {
  const child = await holdInChild();
  child.kill('SIGKILL');
  await child.exited;
  const lock = tryLock(dir, 'edge', 'next');
  expect(lock).not.toBeNull();
  lock?.release();
  expect(tryLock(dir, 'edge', 'again')).not.toBeNull();
});

test('the address of the embedded Postgres is left and taken away', () => {
  expect(readPostgresAddress(dir)).toBeNull();
  writePostgresAddress(dir, 'postgres://127.0.0.1:1/x');
  expect(readPostgresAddress(dir)).toBe('postgres://127.0.0.1:1/x');
  removePostgresAddress(dir);
  expect(readPostgresAddress(dir)).toBeNull();
});
