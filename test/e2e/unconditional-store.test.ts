import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archivePartitions, listManifest } from '../../src/blob/archive.ts';
import { readArchiveObject } from '../../src/blob/archive-object.ts';
import { ONE_ARCHIVE_WORKER } from '../../src/blob/blob.ts';
import { openS3BlobStore } from '../../src/blob/s3.ts';
import { readConfig } from '../../src/config.ts';
import { generatePins } from '../../src/emulator/generate.ts';
import { freshBucket } from '../servers/fresh.ts';
import type { Settings } from '../servers/recipe.ts';
import { testServer } from '../servers/servers.ts';
import { type Env, eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * The documented fall-back on a store without conditional puts: a real S3 server behind a proxy that answers 501 to
 * If-None-Match, one archive worker, killed with -9 again and again.
 */
const KILLS = 4;
const PINS_A_POST = 50;
const POST_MS = 1500;
const SETTLE_MS = 120_000;

const server = await testServer('s3');
const stops: (() => unknown)[] = [];
afterAll(async () => {
  for (const stop of stops.reverse()) await stop();
});

const NOT_IMPLEMENTED =
  '<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>If-None-Match is not implemented</Message></Error>';

/** The Host stays the server's own: it is part of what a request's signature covers. */
const withoutConditions = (settings: Settings) => {
  const origin = new URL(settings.S3_ENDPOINT as string);
  let refused = 0;
  const proxy = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: async (request) => {
      if (request.headers.has('if-none-match')) {
        refused += 1;
        return new Response(NOT_IMPLEMENTED, { status: 501, headers: { 'Content-Type': 'application/xml' } });
      }
      const url = new URL(request.url);
      const { method, headers } = request;
      const body = method === 'GET' || method === 'HEAD' ? undefined : await request.arrayBuffer();
      return fetch(`${origin.origin}${url.pathname}${url.search}`, { method, headers, body, decompress: false });
    },
  });
  stops.push(() => proxy.stop(true));
  return { endpoint: `http://127.0.0.1:${proxy.port}`, refused: () => refused };
};

const pins = generatePins({ seed: 5 });
let posted = 0;

/** Posts until the time is up or the program is gone; what is not acked may be there too. */
const postFor = async ({ url }: Running) => {
  for (const until = Date.now() + POST_MS; Date.now() < until; ) {
    const body = Array.from({ length: PINS_A_POST }, () => JSON.stringify(pins.next().value)).join('\n');
    const headers = { 'content-type': 'application/x-ndjson' };
    const answer = await fetch(`${url}/pins`, { method: 'POST', headers, body }).catch(() => null);
    if (answer === null) return;
    expect(answer.status).toBe(200);
    posted += PINS_A_POST;
  }
};

/** Each line of the archive by its place. @throws when a place stands twice */
const archivedPlaces = async (settings: Settings): Promise<ReadonlySet<string>> => {
  const store = openS3BlobStore(readConfig({ ...settings, S3_PREFIX: 'pinflow/' }));
  const places = new Set<string>();
  try {
    for (const partition of await archivePartitions(store)) {
      for await (const entry of listManifest(store, partition)) {
        for (const { offset } of await readArchiveObject(store, entry)) {
          const place = `${partition}/${offset}`;
          if (places.has(place)) throw new Error(`${place} stands twice`);
          places.add(place);
        }
      }
    }
  } finally {
    await store.close();
  }
  return places;
};

if ('skip' in server) {
  test.skip(`a store without conditional puts: ${server.skip}`, () => {});
} else {
  test(
    'a store without conditional puts: said at the start and by doctor; one archive worker keeps each offset once, across kill -9',
    async () => {
      const settings = await freshBucket(server.settings);
      const proxy = withoutConditions(settings);
      const dir = mkdtempSync(join(tmpdir(), 'pinflow-e2e-'));
      stops.push(() => rmSync(dir, { recursive: true, force: true }));
      const env: Env = {
        ...settings,
        S3_ENDPOINT: proxy.endpoint,
        S3_PREFIX: 'pinflow/',
        DATA_DIR: dir,
        ARCHIVE_MAX_SECONDS: '1',
        CLEAN_CRON: '*/2 * * * * *',
      };
      for (let kill = 0; kill < KILLS; kill++) {
        const program = await startProgram(env);
        const posting = postFor(program);
        await Bun.sleep(POST_MS * Math.random());
        await program.kill('SIGKILL');
        await posting;
      }
      const program = await startProgram(env);
      stops.push(() => program.kill('SIGKILL'));
      await postFor(program);
      await eventually('all places equal', SETTLE_MS, async () =>
        (await runCommand(env, ['reconcile', '--wait', '30'])).code === 0 ? true : null,
      );

      const places = await archivedPlaces(settings);
      expect(places.size).toBeGreaterThanOrEqual(posted);
      expect(proxy.refused()).toBeGreaterThan(0);
      expect(program.output()).toContain(ONE_ARCHIVE_WORKER);
      const doctor = await runCommand(env, ['doctor', '--format', 'json']);
      expect(doctor.stdout).toContain(ONE_ARCHIVE_WORKER);
      expect(doctor.code).toBe(0);
    },
    { timeout: 300_000 },
  );
}
