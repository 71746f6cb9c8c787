import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archivePartitions, listManifest } from '../../src/blob/archive.ts';
import { readArchiveObject } from '../../src/blob/archive-object.ts';
import { openFsBlobStore } from '../../src/blob/fs.ts';
import { readConfig } from '../../src/config.ts';
import { readPostgresAddress } from '../../src/data-dir.ts';
import { openEmbeddedPinStore } from '../../src/db/pin-store/open.ts';
import { openPostgres } from '../../src/db/postgres/open.ts';
import { getSpeedPin } from '../../src/db/postgres/speed-view.ts';
import { createLogger } from '../../src/logger.ts';
import { cleanPin } from '../../src/pin/clean.ts';
import { decodeRecord } from '../../src/pin/decode.ts';
import { eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * The main promise on the real program and its embedded parts: pins posted while the process is killed with -9 again and
 * again; every acked one stands once in the log and the archive, and as its last version in both views.
 */
const KILLS = 5;
const PINS_PER_ROUND = 600;
/** Every so often a known pin is posted again with another title: an update. */
const UPDATE_EVERY = 9;
const BULK_EVERY = 4;
const BULK_PINS = 40;
const SETTLE_SECONDS = 120;

const logger = createLogger('silent', 'e2e');
const fixture = (await Bun.file(join(import.meta.dir, '../fixtures/pins.ndjson')).text()).trim().split('\n');

let dir: string;
let program: Running;
/** Positions as acked → the id acked there. */
const ackedAt = new Map<string, string>();
/** Last acked version of each id, by the title it was posted with. */
const lastTitle = new Map<string, string | null>();
/** Ids whose newest post got no answer: it may or may not be there. */
const unsure = new Set<string>();

const env = () => ({ DATA_DIR: dir, ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: '*/2 * * * * *' });

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-e2e-'));
});
afterAll(async () => {
  await program?.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

let serial = 0;
const nextPin = (): Record<string, unknown> => {
  const pin = JSON.parse(fixture[serial % fixture.length] as string) as Record<string, unknown>;
  serial++;
  const update = serial % UPDATE_EVERY === 0 ? [...lastTitle.keys()][serial % lastTitle.size] : undefined;
  return update === undefined
    ? { ...pin, unique_id: crypto.randomUUID() }
    : { ...pin, unique_id: update, title: `update ${serial}` };
};

const acked = (pin: Record<string, unknown>, position: string | null) => {
  const id = pin.unique_id as string;
  expect(position).toMatch(/^\d+\/\d+$/);
  expect(ackedAt.has(position as string)).toBe(false);
  ackedAt.set(position as string, id);
  lastTitle.set(id, pin.title as string | null);
  unsure.delete(id);
};

const postOne = async () => {
  const pin = nextPin();
  unsure.add(pin.unique_id as string);
  const response = await fetch(`${program.url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(pin),
  });
  expect(response.status).toBe(200);
  expect(response.headers.get('x-pin-durability')).toBe('log');
  expect(await response.json()).toMatchObject(pin);
  acked(pin, response.headers.get('x-pin-position'));
};

const postMany = async () => {
  const pins = Array.from({ length: BULK_PINS }, nextPin).filter(
    (pin, i, all) => all.findIndex((other) => other.unique_id === pin.unique_id) === i,
  );
  for (const pin of pins) unsure.add(pin.unique_id as string);
  const response = await fetch(`${program.url}/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: pins.map((pin) => JSON.stringify(pin)).join('\n'),
  });
  const { accepted, outcomes } = (await response.json()) as { accepted: number; outcomes: { position: string }[] };
  expect(accepted).toBe(pins.length);
  for (const [i, pin] of pins.entries()) acked(pin, outcomes[i]?.position ?? null);
};

/** Posts until the program is gone or the round is full. */
const postRound = async () => {
  for (let i = 0; i < PINS_PER_ROUND; i++) {
    try {
      await (i % BULK_EVERY === 0 ? postMany() : postOne());
    } catch (error) {
      if (error instanceof Error && 'code' in error) return; // the connection broke: the program was killed
      throw error;
    }
  }
};

const archivedLines = async () => {
  const store = openFsBlobStore({ dir: join(dir, 'archive') });
  const lines = new Map<string, string>();
  for (const partition of await archivePartitions(store)) {
    for await (const entry of listManifest(store, partition)) {
      for (const line of await readArchiveObject(store, entry)) {
        const place = `${partition}/${line.offset}`;
        expect(lines.has(place)).toBe(false);
        lines.set(place, Buffer.from(line.line).toString());
      }
    }
  }
  await store.close();
  return lines;
};

test(
  'every acked pin is in the archive once and in both views as its last version, across kill -9',
  async () => {
    for (let round = 0; round < KILLS; round++) {
      program = await startProgram(env());
      const posting = postRound();
      await Bun.sleep(200 + Math.random() * 3000);
      await program.kill('SIGKILL');
      await posting;
    }
    program = await startProgram(env());
    await postRound();
    expect(ackedAt.size).toBeGreaterThan(3000);

    const settled = await eventually('all places equal', SETTLE_SECONDS * 1000, async () => {
      const { code, stdout } = await runCommand(env(), ['reconcile', '--format', 'json']);
      return code === 0 ? (JSON.parse(stdout) as { counts: Record<string, number>; rejects: number }) : null;
    });
    expect(settled.rejects).toBe(0);
    expect(new Set(Object.values(settled.counts)).size).toBe(1);

    const lines = await archivedLines();
    for (const [place, id] of ackedAt) {
      const decoded = decodeRecord(lines.get(place) ?? '', 0);
      expect(decoded.ok && decoded.value.unique_id).toBe(id);
    }

    const newest = new Map<string, ReturnType<typeof cleanPin>>();
    for (const text of lines.values()) {
      const decoded = decodeRecord(text, 0);
      if (!decoded.ok) throw new Error(decoded.reject.reason);
      const pin = cleanPin(decoded.value);
      const before = newest.get(pin.uniqueId);
      if (before === undefined || before.receivedAtMicros < pin.receivedAtMicros) newest.set(pin.uniqueId, pin);
    }
    const batch = openEmbeddedPinStore(readConfig(env()));
    const database = openPostgres({ url: readPostgresAddress(dir) ?? '', logger, applicationName: 'e2e' });
    for (const [id, pin] of newest) {
      expect(await batch.get(id)).toMatchObject(pin);
      expect(await getSpeedPin(database, id)).toMatchObject(pin);
      const title = lastTitle.get(id);
      if (!unsure.has(id) && title !== undefined && title !== 'No Title Data Available') expect(pin.title).toBe(title);
    }
    for (const id of lastTitle.keys()) expect(newest.has(id)).toBe(true);
    await batch.close();
    await database.close();

    expect(await program.kill('SIGTERM')).toBe(0);
    expect(program.output()).toContain('drained');
  },
  { timeout: 600_000 },
);
