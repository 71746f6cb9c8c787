import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { isPinflowError } from '../errors.ts';
import type { BlobMetadata, BlobStore } from './blob.ts';

export type OpenedStore = {
  readonly store: BlobStore;
  /** A second opening of the same objects, as another process would have it. */
  readonly other: BlobStore;
  readonly close: () => Promise<void>;
};

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (found: { readonly bytes: Uint8Array } | null) =>
  found === null ? null : new TextDecoder().decode(found.bytes);

const keysOf = async (store: BlobStore, prefix: string, startAfter?: string) => {
  const keys: string[] = [];
  for await (const { key } of store.list({ prefix, startAfter })) keys.push(key);
  return keys;
};

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error) => (isPinflowError(error) ? error.code : String(error)),
  );

/** Characters around `/` in the byte order, so that a walk of folders in the wrong order shows. */
const segment = fc.stringMatching(/^[0A_a=-][0A_a=.-]{0,2}$/);
const keys = fc.uniqueArray(
  fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/')),
  { minLength: 1, maxLength: 12 },
);
/** No key is the folder of another: files cannot do that. */
const withoutNested = (all: readonly string[]) =>
  all.filter((key) => !all.some((other) => other.startsWith(`${key}/`)));

/** What every object store must do; each test works under a prefix of its own. */
export const blobContract = (name: string, open: () => Promise<OpenedStore>): void => {
  describe(`${name}: the object store contract`, () => {
    let opened: OpenedStore;
    let store: BlobStore;
    let other: BlobStore;
    beforeAll(async () => {
      opened = await open();
      ({ store, other } = opened);
      await store.check();
    });
    afterAll(() => opened.close());
    const fresh = () => `t${crypto.randomUUID()}/`;

    test('gives back what was put: bytes of every value, size and metadata', async () => {
      const key = `${fresh()}dt=2026-11-23/all.bin`;
      const all = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
      const metadata = { 'first-offset': '12', note: 'a, "b" = {c}' };
      expect(await store.put(key, all, { ifAbsent: true, metadata, contentType: 'application/gzip' })).toBe('created');
      const found = await other.get(key);
      expect(Buffer.compare(found?.bytes ?? new Uint8Array(), all)).toBe(0);
      expect(found).toMatchObject({ key, size: 70_000, metadata });
      expect(await other.head(key)).toEqual({ key, size: 70_000, metadata });
    });

    test('an empty object without metadata', async () => {
      const key = `${fresh()}empty`;
      await store.put(key, new Uint8Array(), { ifAbsent: true });
      expect(await store.head(key)).toEqual({ key, size: 0, metadata: {} });
      expect((await store.get(key))?.bytes.length).toBe(0);
    });

    test('what is not there is null, also below an object and as a folder', async () => {
      const prefix = fresh();
      await store.put(`${prefix}a/b`, bytes('x'), { ifAbsent: true });
      for (const key of [`${prefix}nothing`, `${prefix}a/c`, `${prefix}b/c/d`]) {
        expect(await store.get(key)).toBeNull();
        expect(await store.head(key)).toBeNull();
      }
    });

    test('ifAbsent keeps the first object and its metadata', async () => {
      const key = `${fresh()}once`;
      expect(await store.put(key, bytes('first'), { ifAbsent: true, metadata: { by: 'one' } })).toBe('created');
      expect(await other.put(key, bytes('second'), { ifAbsent: true, metadata: { by: 'two' } })).toBe('exists');
      const found = await store.get(key);
      expect(text(found)).toBe('first');
      expect(found?.metadata).toEqual({ by: 'one' });
    });

    test('without ifAbsent an object and its metadata are replaced', async () => {
      const key = `${fresh()}often`;
      await store.put(key, bytes('first'), { ifAbsent: true, metadata: { by: 'one' } });
      expect(await other.put(key, bytes('second'), { ifAbsent: false, metadata: { by: 'two' } })).toBe('created');
      expect(await store.get(key)).toMatchObject({ size: 6, metadata: { by: 'two' } });
      await store.put(key, bytes('third'), { ifAbsent: false });
      const found = await other.get(key);
      expect(text(found)).toBe('third');
      expect(found?.metadata).toEqual({});
    });

    test('of many writers at once exactly one creates, and its bytes and metadata stay together', async () => {
      if (!store.supports.conditionalPut) return console.warn(`${name} has no atomic conditional put: race not tested`);
      for (let round = 0; round < 5; round++) {
        const key = `${fresh()}race`;
        const puts = Array.from({ length: 12 }, (_, i) =>
          (i % 2 ? store : other).put(key, bytes(`writer ${i}`), { ifAbsent: true, metadata: { writer: `${i}` } }),
        );
        const outcomes = await Promise.all(puts);
        expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
        const winner = outcomes.indexOf('created');
        const found = await store.get(key);
        expect(text(found)).toBe(`writer ${winner}`);
        expect(found?.metadata).toEqual({ writer: `${winner}` });
      }
    });

    test('lists exactly the keys under a prefix, in the order of their bytes', async () => {
      await fc.assert(
        fc.asyncProperty(keys, async (generated) => {
          const prefix = fresh();
          const wanted = withoutNested(generated).map((key) => prefix + key);
          await Promise.all(wanted.map((key) => store.put(key, bytes(key), { ifAbsent: true })));
          expect(await keysOf(other, prefix)).toEqual(wanted.sort());
          const [first = ''] = wanted;
          const partial = first.slice(0, prefix.length + 1);
          expect(await keysOf(other, partial)).toEqual(wanted.filter((key) => key.startsWith(partial)));
        }),
        { numRuns: 25 },
      );
    });

    test('startAfter: strictly after, whether or not there is such a key', async () => {
      const prefix = fresh();
      const all = ['a-b', 'a/1', 'a/2/x', 'a/2/y', 'a0', 'b/1', 'b=1'].map((key) => prefix + key);
      await Promise.all(all.map((key) => store.put(key, bytes(key), { ifAbsent: true })));
      for (const after of [...all, `${prefix}a`, `${prefix}a/`, `${prefix}a/1z`, `${prefix}a/2/`, `${prefix}zz`]) {
        expect(await keysOf(other, prefix, after)).toEqual(all.filter((key) => key > after).sort());
      }
      expect(await keysOf(other, `${prefix}b`, `${prefix}a/2/x`)).toEqual([`${prefix}b/1`, `${prefix}b=1`]);
    });

    test('a list tells sizes, can be left early, and may be empty', async () => {
      const prefix = fresh();
      for (const length of [0, 5]) await store.put(`${prefix}n${length}`, new Uint8Array(length), { ifAbsent: true });
      const sizes: number[] = [];
      for await (const info of store.list({ prefix })) sizes.push(info.size);
      expect(sizes).toEqual([0, 5]);
      for await (const info of store.list({ prefix })) {
        expect(info.key).toBe(`${prefix}n0`);
        break;
      }
      expect(await keysOf(store, `${prefix}nothing/`)).toEqual([]);
    });

    test('lists more objects than a page holds', async () => {
      const prefix = fresh();
      const all = Array.from({ length: 1_105 }, (_, i) => `${prefix}${String(i).padStart(6, '0')}`);
      for (let i = 0; i < all.length; i += 50) {
        await Promise.all(all.slice(i, i + 50).map((key) => store.put(key, bytes('x'), { ifAbsent: false })));
      }
      expect(await keysOf(other, prefix)).toEqual(all);
      expect(await keysOf(other, prefix, all[51])).toEqual(all.slice(52));
    }, 60_000);

    test('folders: the distinct next segments, without objects beside them', async () => {
      const prefix = fresh();
      for (const key of ['10/a', '2/a', '2/b/c', 'x/y/z', 'file']) {
        await store.put(prefix + key, bytes('x'), { ifAbsent: true });
      }
      expect(await other.folders(prefix)).toEqual(['10', '2', 'x']);
      expect(await other.folders(`${prefix}x/`)).toEqual(['y']);
      expect(await other.folders(`${prefix}nothing/`)).toEqual([]);
    });

    test('delete: the object is gone, its folder too, and deleting it again is no error', async () => {
      const prefix = fresh();
      await store.put(`${prefix}a/b`, bytes('x'), { ifAbsent: true, metadata: { by: 'one' } });
      await store.delete(`${prefix}a/b`);
      await store.delete(`${prefix}a/b`);
      await store.delete(`${prefix}never/was`);
      expect(await other.get(`${prefix}a/b`)).toBeNull();
      expect(await keysOf(other, prefix)).toEqual([]);
      expect(await other.folders(prefix)).toEqual([]);
      expect(await store.put(`${prefix}a/b`, bytes('x'), { ifAbsent: true })).toBe('created');
      expect((await store.get(`${prefix}a/b`))?.metadata).toEqual({});
    });

    test.each([
      ['empty', ''],
      ['absolute', '/a'],
      ['a folder', 'a/'],
      ['an empty segment', 'a//b'],
      ['here', '.'],
      ['the folder above', '..'],
      ['out and in again', 'a/../b'],
      ['out', '../a'],
      ['a hidden name', 'a/.b'],
      ['a hidden folder', '.tmp/a'],
      ['a space', 'a b'],
      ['not ASCII', 'ä'],
      ['a backslash', 'a\\b'],
      ['a line break', 'a\nb'],
      ['NUL', 'a\0'],
      ['a segment that is too long', 'x'.repeat(181)],
      ['a key that is too long', `${'x/'.repeat(256)}x`],
    ])('refuses a key everywhere: %s', async (_, key) => {
      expect(await codeOf(store.put(key, bytes('x'), { ifAbsent: false }))).toBe('internal');
      expect(await codeOf(store.get(key))).toBe('internal');
      expect(await codeOf(store.head(key))).toBe('internal');
      expect(await codeOf(store.delete(key))).toBe('internal');
    });

    test.each(['../', '/', 'a//', '.tmp/', 'ä'])('refuses the prefix %j', async (prefix) => {
      expect(await codeOf(keysOf(store, prefix))).toBe('internal');
      expect(await codeOf(store.folders(prefix))).toBe('internal');
    });

    test.each([
      ['a name in capitals', { Upper: 'x' }],
      ['not ASCII', { a: 'ä' }],
      ['an empty value', { a: '' }],
      ['a space at the start', { a: ' x' }],
      ['a line break', { a: 'x\ny' }],
      ['too much of it', { a: 'x'.repeat(2048) }],
    ])('refuses metadata: %s', async (_, metadata: BlobMetadata) => {
      const key = `${fresh()}m`;
      expect(await codeOf(store.put(key, bytes('x'), { ifAbsent: true, metadata }))).toBe('internal');
      expect(await store.get(key)).toBeNull();
    });
  });
};
