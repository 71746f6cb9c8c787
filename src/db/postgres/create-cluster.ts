import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';

/**
 * The entry of a short-lived process: creates the data of an embedded Postgres in the folder that its argument names.
 * A folder is created beside its place and renamed when it is whole and synced: a kill on the way leaves nothing behind that counts.
 */
const syncPath = async (path: string) => {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const syncTree = async (dir: string) => {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    await syncPath(join(entry.parentPath, entry.name));
  }
  await syncPath(dir);
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Drafts of processes that were killed. One that still runs keeps its own: its parent may be gone and another have come. */
const removeDrafts = async (dir: string) => {
  const prefix = `${basename(dir)}.new-`;
  for (const name of await readdir(dirname(dir))) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue;
    await rm(join(dirname(dir), name), { recursive: true, force: true });
  }
};

const createCluster = async (dir: string) => {
  await mkdir(dirname(dir), { recursive: true });
  await removeDrafts(dir);
  const draft = `${dir}.new-${process.pid}`;
  try {
    const db = await PGlite.create(draft);
    await db.close();
    await syncTree(draft);
    await rename(draft, dir);
    await syncPath(dirname(dir));
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    // Another process was first: its folder is as good.
    if (!existsSync(join(dir, 'PG_VERSION'))) throw error;
  }
};

try {
  await createCluster(process.argv[2] as string);
  process.exit(0);
} catch (error) {
  process.stderr.write(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
