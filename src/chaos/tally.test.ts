import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { postgresEngines } from '../../test/fixtures/postgres.ts';
import { encodeArchiveObject } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import { openFsBlobStore } from '../blob/fs.ts';
import { readConfig } from '../config.ts';
import { openEmbeddedPinStore } from '../db/pin-store/open.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import { type Database, openPostgres } from '../db/postgres/open.ts';
import type { PinLog } from '../log/log.ts';
import { openLog } from '../log/open.ts';
import { createLogger } from '../logger.ts';
import { cleanPin } from '../pin/clean.ts';
import { decodeRecord } from '../pin/decode.ts';
import { writeTimestamp } from '../pin/pin.ts';
import { formatMicros } from '../pin/timestamp.ts';
import { tally } from './tally.ts';

/** What `chaos` would say of a program that loses and duplicates: it must not call that good. */
setDefaultTimeout(120_000);
const logger = createLogger('silent', 'test');
/** The real one where there is one: it is up sooner. */
const postgres = (await postgresEngines()).findLast(({ available }) => available);

let dir: string;
let log: PinLog;
let store: BlobStore;
let pinStore: PinStore;
let database: Database;
let stopPostgres: () => Promise<void>;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pinflow-tally-'));
  const config = readConfig({ DATA_DIR: dir, PARTITIONS: '1' });
  log = await openLog(config, { logger });
  store = openFsBlobStore({ dir: join(dir, 'archive') });
  pinStore = openEmbeddedPinStore(config);
  await pinStore.migrate();
  if (postgres === undefined) throw new Error('there is always the embedded Postgres');
  const { url, stop } = await postgres.start();
  stopPostgres = stop;
  database = openPostgres({ url, logger, applicationName: 'test' });
});
afterAll(async () => {
  await Promise.all([log.close(), store.close(), pinStore.close(), database.close()]);
  await stopPostgres();
  await rm(dir, { recursive: true });
});

const idOf = (serial: number) => `00000000-0000-4000-8000-${String(serial).padStart(12, '0')}`;

const lineOf = (id: string, index: number, micros: number): string => {
  const text = { category: null, title: 't', description: null, follower_count: null, tag_list: null };
  const rest = { is_image_or_video: null, image_src: null, downloaded: 1, save_location: null };
  return JSON.stringify({ ...text, ...rest, index, unique_id: id, received_at: formatMicros(micros) });
};

const NOW = 1_790_000_000_000_001;
/** Two pins, and a second version of the first. */
const LINES = [lineOf(idOf(1), 10, NOW), lineOf(idOf(2), 20, NOW + 1), lineOf(idOf(1), 30, NOW + 2)];
const ACKED = new Map([
  [idOf(1), 30],
  [idOf(2), 20],
]);

const archive = async (first: number, last: number) => {
  const text = Buffer.from(
    LINES.slice(first, last + 1)
      .map((line) => `${line}\n`)
      .join(''),
  );
  const object = await encodeArchiveObject({ partition: 0, runs: [[first, last]], pins: last - first + 1, text });
  await store.put(object.entry.key, object.bytes, { ifAbsent: true, metadata: object.metadata });
};

const rowOf = (offset: number) => {
  const decoded = decodeRecord(LINES[offset] ?? '', 0);
  if (!decoded.ok) throw new Error(decoded.reject.reason);
  const pin = cleanPin(decoded.value);
  return { ...pin, position: { partition: 0, offset }, writeTimestamp: writeTimestamp(pin.receivedAtMicros, offset) };
};

const insertSpeedRow = (offset: number) => {
  const { uniqueId, indexNo, writeTimestamp: ts } = rowOf(offset);
  return database.sql`
    insert into pins (unique_id, received_at, index_no, downloaded, is_error, error_fields, write_ts, log_partition, log_offset)
    values (${uniqueId}, now(), ${indexNo}, 1, false, '{}', ${ts}, 0, ${offset})
    on conflict (unique_id) do update set index_no = excluded.index_no`;
};

const countWindow = (pins: number) => database.sql`
  insert into pin_error_windows (slide_start, category, field, pins) values (now(), '', '', ${pins})`;

const found = async (acked: ReadonlyMap<string, number> = ACKED) =>
  (await tally({ log, store, pinStores: [pinStore], database }, acked)).map((p) => [
    p.stored,
    p.ids,
    p.lost,
    p.duplicated,
  ]);

test('names what is lost, stale and duplicated, place by place', async () => {
  await log.append(LINES.map((line) => ({ key: 'k', value: Buffer.from(line) })));
  expect(await found()).toEqual([
    [3, 2, 0, 0],
    [0, 0, 3, 0],
    [0, 0, 2, 0],
    [0, 0, 2, 0],
  ]);

  await archive(0, 1);
  await pinStore.upsert([rowOf(0)]);
  await insertSpeedRow(0);
  await insertSpeedRow(1);
  await countWindow(2);
  expect(await found()).toEqual([
    [3, 2, 0, 0],
    // Offset 2 is in no object, and with it the last version of the first id.
    [2, 2, 1, 0],
    [1, 1, 2, 0],
    [2, 2, 1, 0],
  ]);

  await archive(2, 2);
  await pinStore.upsert([rowOf(1), rowOf(2)]);
  await insertSpeedRow(2);
  await countWindow(1);
  expect(await found()).toEqual([
    [3, 2, 0, 0],
    [3, 2, 0, 0],
    [2, 2, 0, 0],
    [2, 2, 0, 0],
  ]);

  // A pin that was acked and is nowhere; an offset in two objects; a batch that the windows counted twice.
  await archive(1, 2);
  await database.sql`update pin_error_windows set pins = pins + 1 where pins = 1`;
  expect(await found(new Map([...ACKED, [idOf(3), 1]]))).toEqual([
    [3, 2, 1, 0],
    [5, 2, 1, 2],
    [2, 2, 1, 0],
    [2, 2, 1, 1],
  ]);
});
