import type { Blob, BlobInfo, BlobStore, ListOptions, PutOptions } from '../../src/blob/blob.ts';
import { checkKey, checkMetadata, checkPrefix } from '../../src/blob/key.ts';

/** The objects of a store, shared by all who have it open, and alive as long as this map. */
export type Objects = Map<string, Blob>;

const byBytes = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * An object store in memory: each call takes effect at one moment, so that wrappers decide about all else.
 * @param conditionalPut false: as a store that does not know If-None-Match, where `ifAbsent` looks first and puts then
 */
export const openMemoryBlobStore = (objects: Objects, conditionalPut = true): BlobStore => {
  const keys = ({ prefix, startAfter = '' }: ListOptions) =>
    [...objects.keys()].filter((key) => key.startsWith(prefix) && key > startAfter).sort(byBytes);

  const put = async (key: string, bytes: Uint8Array, { metadata = {}, ifAbsent }: PutOptions) => {
    checkKey(key);
    checkMetadata(metadata);
    const isTaken = () => ifAbsent && objects.has(key);
    if (isTaken()) return 'exists';
    if (!conditionalPut) await new Promise(setImmediate);
    objects.set(key, { key, size: bytes.length, bytes: bytes.slice(), metadata: { ...metadata } });
    return 'created';
  };

  async function* list(options: ListOptions): AsyncGenerator<BlobInfo> {
    checkPrefix(options.prefix);
    for (const key of keys(options)) {
      const found = objects.get(key);
      if (found !== undefined) yield { key, size: found.size };
    }
  }

  return {
    kind: 's3',
    location: 'memory',
    supports: { conditionalPut },
    put,
    get: async (key) => {
      checkKey(key);
      const found = objects.get(key);
      return found === undefined ? null : { ...found, bytes: found.bytes.slice() };
    },
    head: async (key) => {
      checkKey(key);
      const found = objects.get(key);
      return found === undefined ? null : { key, size: found.size, metadata: found.metadata };
    },
    list,
    folders: async (prefix) => {
      checkPrefix(prefix);
      const below = keys({ prefix }).map((key) => key.slice(prefix.length));
      return [...new Set(below.flatMap((key) => (key.includes('/') ? key.slice(0, key.indexOf('/')) : [])))];
    },
    delete: async (key) => {
      checkKey(key);
      objects.delete(key);
    },
    check: async () => {},
    close: async () => {},
  };
};
