import { expect, test } from 'bun:test';
import { sourceHeaders, sourceOf } from './source.ts';

const read = (name: string) => sourceOf({ headers: sourceHeaders(name).headers ?? {} });

test('a source is read back as it was written, and none as none', () => {
  for (const name of ['laptop', 'é 漢字 📌', 'x'.repeat(64)]) expect(read(name)).toBe(name);
  expect(sourceOf({ headers: sourceHeaders(null).headers ?? {} })).toBeNull();
});

test('what another producer wrote and no name can be is no source: the row must not fail of it', () => {
  for (const name of ['', 'x'.repeat(65), 'a\0b', '\uD800']) expect(read(name)).toBeNull();
});
