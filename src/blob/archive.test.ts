import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { isPinflowError } from '../errors.ts';
import { acceptPin, decodeRecord } from '../pin/decode.ts';
import { formatMicros } from '../pin/timestamp.ts';
import {
  archivePartitions,
  entryMetadata,
  entryOfObject,
  lastManifestEntry,
  listManifest,
  MAX_RUNS,
  manifestKey,
  type OffsetRuns,
  objectKey,
  putManifest,
  readManifestEntry,
} from './archive.ts';
import { archiveLine, lineReceivedAt, readReject } from './archive-line.ts';
import { encodeArchiveObject, readArchiveObject } from './archive-object.ts';
import { openFsBlobStore } from './fs.ts';
import { checkMetadata } from './key.ts';

const dir = await mkdtemp(join(tmpdir(), 'pinflow-archive-'));
afterAll(() => rm(dir, { recursive: true, force: true }));
const freshStore = () => openFsBlobStore({ dir: join(dir, crypto.randomUUID()) });

const bytes = (text: string) => new TextEncoder().encode(text);
const textOf = (line: Uint8Array) => new TextDecoder('utf-8', { fatal: true }).decode(line);
const lineOf = (value: string, timestamp = 1_700_000_000_123) => textOf(archiveLine(bytes(value), timestamp));

const PIN = {
  category: 'travel',
  index: 1,
  unique_id: '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35',
  title: 'a "quoted" title, "received_at":"2026-11-23T18:00:00.000000Z"}',
  description: null,
  follower_count: '5k',
  tag_list: 'a, b',
  is_image_or_video: 'image',
  image_src: 'x',
  downloaded: 1,
  save_location: 'Local save in /data/travel',
};
const STAMP = '2026-11-23T18:00:00.123456Z';
const edgeLine = (micros: number) => {
  const accepted = acceptPin(new TextEncoder().encode(JSON.stringify(PIN)), micros);
  if (!accepted.ok) throw new Error('the test pin is wrong');
  return new TextDecoder().decode(accepted.value.line);
};

describe('the line of a record', () => {
  test('a line of the edge stays as it is, without a copy', () => {
    const value = bytes(edgeLine(1_763_920_800_123_456));
    expect(archiveLine(value, 5)).toBe(value);
    expect(lineReceivedAt(value)).toBe(1_763_920_800_123_456);
  });

  test.each([
    ['no received_at: the log’s timestamp', '{"a":1}', '{"a":1,"received_at":"2023-11-14T22:13:20.123000Z"}'],
    ['an empty object', ' { } ', '{"received_at":"2023-11-14T22:13:20.123000Z"}'],
    ['its own received_at stays', `{"received_at":"${STAMP}","a":1}`, `{"received_at":"${STAMP}","a":1}`],
    ['line breaks become spaces', `{\r\n"a":1,\n"received_at":"${STAMP}"\n}\n`, `{ "a":1, "received_at":"${STAMP}" }`],
    ['a byte order mark is dropped', `\uFEFF{"a":1,"received_at":"${STAMP}"}`, `{"a":1,"received_at":"${STAMP}"}`],
    [
      'an unusable one is replaced',
      '{"received_at":"soon","a":1}',
      '{"a":1,"received_at":"2023-11-14T22:13:20.123000Z"}',
    ],
    [
      'a stamp that is no time',
      `{"a":1,"received_at":"2026-99-23T18:00:00.123456Z"}`,
      '{"a":1,"received_at":"2023-11-14T22:13:20.123000Z"}',
    ],
    [
      'the text of a stamp at the end',
      '{"a":",\\"received_at\\":\\"2026-11-23T18:00:00.123456Z"}',
      '{"a":",\\"received_at\\":\\"2026-11-23T18:00:00.123456Z","received_at":"2023-11-14T22:13:20.123000Z"}',
    ],
    [
      'a stamp further down',
      `{"a":{"b":1,"received_at":"${STAMP}"}}`,
      `{"a":{"b":1,"received_at":"${STAMP}"},"received_at":"2023-11-14T22:13:20.123000Z"}`,
    ],
    [
      'big numbers keep their digits',
      '{"n":12345678901234567890}',
      '{"n":12345678901234567890,"received_at":"2023-11-14T22:13:20.123000Z"}',
    ],
  ])('%s', (_, value, line) => {
    expect(lineOf(value)).toBe(line);
  });

  test.each([
    ['empty', new Uint8Array(), 'empty'],
    ['not UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), 'not UTF-8'],
    [
      'not UTF-8, but stamped',
      Buffer.concat([Buffer.from('{"a":"'), Uint8Array.of(0xc3), Buffer.from(`","received_at":"${STAMP}"}`)]),
      'not UTF-8',
    ],
    ['not JSON', bytes('{"a":\n'), 'not JSON'],
    ['a list', bytes('[1]'), 'not a JSON object'],
    ['null', bytes('null'), 'not a JSON object'],
    ['text', bytes('"x"'), 'not a JSON object'],
  ])('%s: wrapped with its reason, and the value can be had back', (_, value, reason) => {
    const line = archiveLine(value, 1_700_000_000_123);
    expect(readReject(line)?.reason).toContain(reason);
    expect(Buffer.compare(readReject(line)?.value ?? bytes('?'), value)).toBe(0);
    expect(lineReceivedAt(line)).toBe(1_700_000_000_123_000);
    expect(decodeRecord(line, 0).ok).toBe(false);
  });

  test('a pin that carries a field of the wrapper’s name is a pin', () => {
    const line = JSON.stringify({ pinflow_reject: { reason: 'x', base64: '' }, ...PIN, received_at: STAMP });
    expect(readReject(archiveLine(bytes(line), 0))).toBeNull();
    expect(decodeRecord(archiveLine(bytes(line), 0), 0).ok).toBe(true);
  });

  const timestamp = fc.oneof(fc.integer({ min: -1, max: 4e12 }), fc.maxSafeInteger());
  const stamp = fc.oneof(
    fc.integer({ min: 0, max: 4e15 }).map(formatMicros),
    fc.constantFrom('2026-11-23T18:00:00Z', '2026-11-23T18:00:00.5Z', 'soon', 5, null, ''),
  );
  const member = fc.oneof(
    fc.constant({}),
    stamp.map((received_at) => ({ received_at })),
  );
  const value = fc.oneof(
    fc
      .tuple(member, fc.boolean(), fc.constantFrom(undefined, 1, '\t'))
      .map(([extra, first, indent]) =>
        bytes(JSON.stringify(first ? { ...extra, ...PIN } : { ...PIN, ...extra }, null, indent)),
      ),
    fc.json().map(bytes),
    fc.string({ unit: 'binary' }).map(bytes),
    fc.uint8Array({ maxLength: 40 }),
  );

  test('any record is one line of one JSON object, and decodes to what the speed layer decodes', () => {
    fc.assert(
      fc.property(value, timestamp, (record, millis) => {
        const line = archiveLine(record, millis);
        expect(textOf(line)).not.toMatch(/[\r\n]/);
        expect(JSON.parse(textOf(line))).toBeObject();
        expect(Number.isSafeInteger(lineReceivedAt(line))).toBe(true);
        const live = decodeRecord(record, millis);
        const archived = decodeRecord(line, 0);
        expect(archived.ok).toBe(live.ok);
        if (!live.ok || !archived.ok) return;
        expect(lineReceivedAt(line)).toBe(live.value.receivedAtMicros);
        expect(archived.value).toEqual(live.value);
      }),
      { numRuns: 2000 },
    );
  });

  test('the line of a line is the line', () => {
    fc.assert(
      fc.property(value, timestamp, (record, millis) => {
        const line = archiveLine(record, millis);
        expect(textOf(archiveLine(line, 7))).toBe(textOf(line));
      }),
    );
  });
});

/** Offsets with holes, as runs. */
const runsOf = (offsets: readonly number[]): OffsetRuns => {
  const runs: [number, number][] = [];
  for (const offset of offsets) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === offset - 1) last[1] = offset;
    else runs.push([offset, offset]);
  }
  return runs;
};
const objectOf = (partition: number, offsets: readonly number[], say = (offset: number) => `{"n":${offset}}`) =>
  encodeArchiveObject({
    partition,
    runs: runsOf(offsets),
    pins: offsets.length,
    text: Buffer.concat(offsets.map((offset) => Buffer.from(`${textOf(archiveLine(bytes(say(offset)), 0))}\n`))),
  });

describe('an archive object', () => {
  const offsets = fc
    .tuple(
      fc.maxSafeInteger().map((n) => Math.floor(Math.abs(n) / 4)),
      fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 40 }),
    )
    .map(([first, steps]) => {
      let offset = first;
      return [first, ...steps.map((step) => (offset += step))];
    });

  test('gives back each line under its offset, holes or not, and its metadata alone gives its entry', async () => {
    const store = freshStore();
    await fc.assert(
      fc.asyncProperty(offsets, async (wanted) => {
        const { entry, bytes: body, metadata } = await objectOf(3, wanted);
        await store.put(entry.key, body, { ifAbsent: false, metadata });
        const lines = await readArchiveObject(store, entry);
        expect(lines.map(({ offset }) => offset)).toEqual(wanted);
        expect(lines.map(({ line }) => JSON.parse(textOf(line)).n)).toEqual(wanted);
        const head = await store.head(entry.key);
        expect(head === null ? null : entryOfObject(head)).toEqual(entry);
      }),
      { numRuns: 30 },
    );
  });

  test('is named by partition, first offset and the first record’s hour', async () => {
    const { entry } = await objectOf(2, [17, 18]);
    expect(entry.key).toBe('pins/dt=1970-01-01/hour=00/2-00000000000000000017.ndjson.gz');
    expect(objectKey({ partition: 0, offset: 1 }, Date.parse('2026-11-23T18:59:59.999Z') * 1000 + 999)).toBe(
      'pins/dt=2026-11-23/hour=18/0-00000000000000000001.ndjson.gz',
    );
    expect(entry.runs).toBeNull();
  });

  test('the most runs there may be, at the highest offsets, fit into the metadata', async () => {
    const wide = Array.from({ length: MAX_RUNS }, (_, i) => i * 2 ** 46);
    const { entry, metadata } = await objectOf(99_999, wide);
    checkMetadata(metadata);
    expect(entryOfObject({ key: entry.key, size: entry.bytes, metadata })).toEqual(entry);
    expect(Object.entries(entryMetadata(entry)).flat().join('').length).toBeLessThan(2048);
  });

  test.each([
    ['bytes that changed', { body: 'flip' }, 'SHA-256'],
    ['nothing there', { body: 'none' }, 'not in the store'],
    ['fewer lines than offsets', { lastOffset: 9 }, 'fewer than its offsets'],
    ['more lines than offsets', { lastOffset: 1 }, 'more lines than offsets'],
    ['another count', { pins: 9 }, 'and not 9'],
    ['not gzip', { body: 'text' }, 'damaged'],
  ] as const)('%s: corrupt, with the reason', async (_, change, reason) => {
    const store = freshStore();
    const { entry, bytes: whole } = await objectOf(0, [0, 1, 2]);
    const { body, ...rest }: { body?: string; lastOffset?: number; pins?: number } = change;
    const put = body === 'text' ? Buffer.from('no gzip') : Buffer.from(whole);
    if (body === 'flip') put[put.length >> 1] = (put[put.length >> 1] ?? 0) ^ 1;
    if (body !== 'none') await store.put(entry.key, put, { ifAbsent: true });
    const sha256 = body === 'text' ? Bun.CryptoHasher.hash('sha256', put, 'hex') : entry.sha256;
    const error = await readArchiveObject(store, { ...entry, ...rest, sha256 }).catch((e) => e);
    expect(isPinflowError(error, 'corrupt_object') && !error.retryable).toBe(true);
    expect(error.message).toContain(reason);
    expect(error.message).toContain(entry.key);
  });

  test('an object whose metadata was lost is corrupt', () => {
    expect(() => entryOfObject({ key: 'pins/x', size: 1, metadata: {} })).toThrow('metadata of archive object pins/x');
  });
});

describe('the manifest', () => {
  test('lists the chain of a partition in order, from any offset on; partitions in order of number', async () => {
    const store = freshStore();
    for (let i = 0; i < 40; i++) await putManifest(store, (await objectOf(2, [i * 10, i * 10 + 9])).entry);
    for (const partition of [10, 0]) await putManifest(store, (await objectOf(partition, [0])).entry);
    const firsts = async (from?: number) =>
      (await Array.fromAsync(listManifest(store, 2, from))).map((e) => e.firstOffset);
    expect(await firsts()).toEqual(Array.from({ length: 40 }, (_, i) => i * 10));
    expect(await firsts(380)).toEqual([380, 390]);
    expect(await firsts(381)).toEqual([390]);
    expect(await firsts(391)).toEqual([]);
    expect(await archivePartitions(store)).toEqual([0, 2, 10]);
    for (const near of [0, 391, 400, 5_000_000, 2 ** 40]) {
      expect((await lastManifestEntry(store, 2, near))?.lastOffset).toBe(399);
      expect(await lastManifestEntry(store, 1, near)).toBeNull();
    }
    expect(await readManifestEntry(store, { partition: 2, offset: 5 })).toBeNull();
  });

  test('the first entry of an offset stays', async () => {
    const store = freshStore();
    expect(await putManifest(store, (await objectOf(0, [0, 1])).entry)).toBe('created');
    expect(await putManifest(store, (await objectOf(0, [0])).entry)).toBe('exists');
    expect((await readManifestEntry(store, { partition: 0, offset: 0 }))?.lastOffset).toBe(1);
  });

  test.each(['', '{', '{"key":"x"}', 'null'])('an entry that says %j is corrupt, and named', async (text) => {
    const store = freshStore();
    await store.put(manifestKey(0, 5), bytes(text), { ifAbsent: true });
    const error = await Array.fromAsync(listManifest(store, 0)).catch((e) => e);
    expect(isPinflowError(error, 'corrupt_object')).toBe(true);
    expect(error.message).toContain(manifestKey(0, 5));
  });
});
