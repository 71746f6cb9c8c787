import { link, mkdir, open, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { PinflowError } from '../errors.ts';
import type { BlobInfo, BlobMetadata, BlobStore, ListOptions, PutOptions } from './blob.ts';
import { checkKey, checkMetadata, checkPrefix, isSegment } from './key.ts';

/**
 * The object store in plain files: an object is the file of its key's name, so `zcat` and `cp` work on it.
 *
 * An object is written to `.tmp/`, fsynced and then linked to its name, which exactly one writer of all processes can do.
 * Its metadata is a hidden file beside it, `.<name>.<SHA-256 of the object>`, durable before the link: no object is ever
 * seen without its metadata, and a writer that lost the race leaves metadata that belongs to no object.
 */
const TEMP_FOLDER = '.tmp';
/** Older than any put can take, milliseconds: such a file is what a killed process left. */
const TEMP_MAX_AGE_MS = 3_600_000;
/** Calls of a put in all, when a delete beside it keeps removing the empty folder it has just made. */
const FOLDER_ATTEMPTS = 5;

const FULL = new Set(['ENOSPC', 'EDQUOT']);
const PASSING = new Set(['EIO', 'EMFILE', 'ENFILE', 'EAGAIN', 'EBUSY', 'ENOMEM', 'ESTALE', 'EINTR', 'ETIMEDOUT']);

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');
const isAbsent = (error: unknown): boolean => codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';
const sha256 = (bytes: Uint8Array): string => Bun.CryptoHasher.hash('sha256', bytes, 'hex');

const fsError = (dir: string, doing: string, error: unknown): PinflowError => {
  if (error instanceof PinflowError) return error;
  const code = codeOf(error);
  if (FULL.has(code)) {
    return new PinflowError('disk_full', `no space left to ${doing} in ${dir}: free some, or move DATA_DIR`, {
      retryable: true,
      cause: error,
    });
  }
  const detail = error instanceof Error ? error.message : String(error);
  return new PinflowError(
    'blob_unavailable',
    `could not ${doing} in ${dir}: ${detail}. Check the folder under DATA_DIR`,
    {
      retryable: PASSING.has(code),
      cause: error,
    },
  );
};

/** Makes a folder's entries durable. */
const syncFolder = async (path: string): Promise<void> => {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
};

const writeDurably = async (path: string, bytes: Uint8Array): Promise<void> => {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
};

/** Moves a temporary file to its name. False: the name is taken, and that was not to be overwritten. */
const publish = async (temp: string, path: string, ifAbsent: boolean): Promise<boolean> => {
  if (!ifAbsent) {
    await rename(temp, path);
    return true;
  }
  try {
    await link(temp, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
};

const readIfThere = async (path: string): Promise<Buffer | null> => {
  try {
    return await readFile(path);
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
};

/** They are only in the way of free space, so what cannot be removed now is left for the next start. */
const removeOldTemps = async (folder: string): Promise<void> => {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > TEMP_MAX_AGE_MS) await rm(path, { force: true }).catch(() => {});
  }
};

/** Names in a folder, in the order of the keys below it: a folder's name counts with its slash, so `a-b` comes before `a/b`. */
const entries = async (dir: string, folder: string): Promise<readonly string[]> => {
  try {
    const found = await readdir(join(dir, folder), { withFileTypes: true });
    return found
      .filter((entry) => isSegment(entry.name) && (entry.isFile() || entry.isDirectory()))
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort();
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
};

const mayHold = (folder: string, { prefix, startAfter = '' }: ListOptions): boolean =>
  (folder.startsWith(prefix) || prefix.startsWith(folder)) && (folder > startAfter || startAfter.startsWith(folder));

async function* walk(dir: string, folder: string, options: ListOptions): AsyncGenerator<BlobInfo> {
  for (const name of await entries(dir, folder)) {
    const key = folder + name;
    if (name.endsWith('/')) {
      if (mayHold(key, options)) yield* walk(dir, key, options);
    } else if (key.startsWith(options.prefix) && key > (options.startAfter ?? '')) {
      // Deleted since the folder was read: not listed.
      const found = await stat(join(dir, key)).catch((error) => (isAbsent(error) ? null : Promise.reject(error)));
      if (found !== null) yield { key, size: found.size };
    }
  }
}

/** Durable, atomic writes of one store's files. */
const createWriter = (dir: string) => {
  const temps = join(dir, TEMP_FOLDER);
  let tidied: Promise<void> | null = null;

  /** A new name in the folder of temporary files, which is made each time: a person may have moved the whole store away. */
  const tempPath = async (): Promise<string> => {
    await mkdir(temps, { recursive: true });
    tidied ??= removeOldTemps(temps);
    await tidied;
    return join(temps, `${process.pid}-${crypto.randomUUID()}`);
  };

  /** Every folder up to the one that holds `dir`: another process may have made any of them and not synced it yet. */
  const syncUp = async (path: string): Promise<void> => {
    for (let folder = path; ; folder = dirname(folder)) {
      await syncFolder(folder);
      if (folder.length < dir.length || dirname(folder) === folder) return;
    }
  };

  const write = async (path: string, bytes: Uint8Array, ifAbsent: boolean): Promise<boolean> => {
    const temp = await tempPath();
    try {
      await writeDurably(temp, bytes);
      for (let attempt = 1; ; attempt++) {
        try {
          await mkdir(dirname(path), { recursive: true });
          const created = await publish(temp, path, ifAbsent);
          // A loser syncs too: what it found may not be durable yet, and it goes on as if it were.
          await syncUp(dirname(path));
          return created;
        } catch (error) {
          if (codeOf(error) !== 'ENOENT' || attempt >= FOLDER_ATTEMPTS) throw error;
        }
      }
    } finally {
      await rm(temp, { force: true });
    }
  };

  return { tempPath, write };
};

const metadataName = (key: string, digest: string): string => {
  const slash = key.lastIndexOf('/') + 1;
  return `${key.slice(0, slash)}.${key.slice(slash)}.${digest}`;
};

/** Removes an object, whatever metadata was ever written for it, and the folders it leaves empty: as in S3, there are none. */
const remove = async (dir: string, key: string): Promise<void> => {
  const folder = dirname(join(dir, key));
  await rm(join(dir, key), { force: true });
  const beside = new RegExp(`^\\.${RegExp.escape(basename(key))}\\.[0-9a-f]{64}$`);
  const names = await readdir(folder).catch((error) => (isAbsent(error) ? [] : Promise.reject(error)));
  for (const name of names.filter((found) => beside.test(found))) await rm(join(folder, name), { force: true });
  for (let above = dirname(key); above !== '.'; above = dirname(above)) {
    const wasEmpty = await rmdir(join(dir, above)).then(
      () => true,
      () => false,
    );
    if (!wasEmpty) return;
  }
};

/**
 * @param dir absolute or relative folder; created when first written to. It must be one file system that has hard links.
 */
export const openFsBlobStore = (options: { readonly dir: string }): BlobStore => {
  const dir = resolve(options.dir);
  const writer = createWriter(dir);
  const path = (key: string) => join(dir, key);
  const run = async <T>(doing: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw fsError(dir, doing, error);
    }
  };

  const metadataOf = async (key: string, bytes: Uint8Array): Promise<BlobMetadata> => {
    const found = await readIfThere(path(metadataName(key, sha256(bytes))));
    return found === null ? {} : (JSON.parse(found.toString()) as BlobMetadata);
  };

  const put = (key: string, bytes: Uint8Array, { metadata = {}, ifAbsent }: PutOptions) =>
    run(`write ${key}`, async () => {
      checkKey(key);
      checkMetadata(metadata);
      if (Object.keys(metadata).length > 0) {
        const beside = path(metadataName(key, sha256(bytes)));
        await writer.write(beside, Buffer.from(JSON.stringify(metadata)), ifAbsent);
      }
      return (await writer.write(path(key), bytes, ifAbsent)) ? 'created' : 'exists';
    });

  const get = (key: string) =>
    run(`read ${key}`, async () => {
      checkKey(key);
      const bytes = await readIfThere(path(key));
      return bytes === null ? null : { key, size: bytes.length, bytes, metadata: await metadataOf(key, bytes) };
    });

  async function* list(options: ListOptions): AsyncGenerator<BlobInfo> {
    checkPrefix(options.prefix);
    try {
      yield* walk(dir, options.prefix.slice(0, options.prefix.lastIndexOf('/') + 1), options);
    } catch (error) {
      throw fsError(dir, `list ${options.prefix}`, error);
    }
  }

  return {
    kind: 'fs',
    location: dir,
    supports: { conditionalPut: true },
    put,
    get,
    head: async (key) => {
      const found = await get(key);
      return found === null ? null : { key, size: found.size, metadata: found.metadata };
    },
    list,
    folders: (prefix) =>
      run(`list ${prefix}`, async () => {
        checkPrefix(prefix);
        return (await entries(dir, prefix)).flatMap((name) => (name.endsWith('/') ? name.slice(0, -1) : []));
      }),
    delete: (key) =>
      run(`delete ${key}`, async () => {
        checkKey(key);
        await remove(dir, key);
      }),
    check: () =>
      run('write', async () => {
        const probe = await writer.tempPath();
        await writeDurably(probe, new Uint8Array(1)).finally(() => rm(probe, { force: true }));
      }),
    close: async () => {},
  };
};
