import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, type Running, runCommand, startProgram } from './program.ts';

/** What a newcomer does, on the real program: every command beside it, and without it. */
const seedPin = readFileSync(join(import.meta.dir, '../fixtures/seed-pin.json'), 'utf8');
const SEED_ID = '0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35';
const TIMEOUT_MS = 180_000;
const SETTLE_MS = 90_000;

let dir: string;
let program: Running;
const env = () => ({ DATA_DIR: dir, ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: 'off' });

const json = async (args: readonly string[], extra: Readonly<Record<string, string>> = {}): Promise<unknown> => {
  const { code, stdout, stderr } = await runCommand({ ...env(), ...extra }, [...args, '--format', 'json']);
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}:\n${stderr}\n${stdout}`);
  return JSON.parse(stdout);
};

const post = (path: string, body: string, type = 'application/json') =>
  fetch(`${program.url}${path}`, { method: 'POST', headers: { 'content-type': type }, body });

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'pinflow-commands-'));
  program = await startProgram(env());
});
afterAll(async () => {
  await program.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

describe('beside the running program', () => {
  test('the seed posts its pin and has it back', async () => {
    const response = await post('/pin/', seedPin);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject(JSON.parse(seedPin) as object);
  });

  test(
    'the emulator posts, a batch run cleans, query counts, reconcile finds all places equal',
    async () => {
      const sent = await json([
        'emulate',
        '--count',
        '500',
        '--batch',
        '50',
        '--rate',
        '2000',
        '--seed',
        '7',
        '--url',
        program.url,
      ]);
      expect(sent).toMatchObject([{ accepted: 500, rejected: 0, failed: 0 }]);

      await eventually('501 pins in the batch view', SETTLE_MS, async () => {
        expect(await json(['clean'])).toMatchObject([{ status: 'done' }]);
        const [row] = (await json(['query', 'select count(*) as pins from userposts'])) as { pins: number }[];
        return row?.pins === 501 ? row : null;
      });
      const answer = await json([
        'query',
        "select follower_count, tag_list, save_location, index_no from userposts where title like 'Ten quiet%'",
      ]);
      expect(answer).toEqual([
        {
          follower_count: 893_000,
          tag_list: '["Mens Fashion","Casual Outfits","Street Style","Summer Looks","Linen"]',
          save_location: '/data/mens-fashion',
          index_no: 7528,
        },
      ]);

      const result = (await json(['reconcile', '--wait', '60'])) as { counts: Record<string, number> };
      expect(result.counts).toEqual({ archive: 501, log: 501, speed: 501, embedded: 501 });
      const runs = (await json(['runs'])) as { status: string; pins: number }[];
      expect(runs.reduce((sum, run) => sum + run.pins, 0)).toBe(501);
    },
    TIMEOUT_MS,
  );

  test('the journey of a pin names its views and its archive object', async () => {
    const journey = (await (await fetch(`${program.url}/pins/${SEED_ID}`)).json()) as Record<string, unknown>;
    expect(journey).toMatchObject({
      unique_id: SEED_ID,
      speed_view: { state: 'present', pin: { follower_count: 893_000 } },
      batch_views: [{ store: 'embedded', state: 'present' }],
      archive: { state: 'present' },
    });
  });

  test('doctor says which engine cannot be reached, by what setting, and exits 1', async () => {
    const broken = await runCommand({ ...env(), DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' }, [
      'doctor',
      '--format',
      'json',
    ]);
    expect(broken.code).toBe(1);
    const findings = JSON.parse(broken.stdout) as { part: string; ok: boolean; detail: string }[];
    expect(findings.filter((finding) => !finding.ok)).toMatchObject([
      { part: 'Postgres', detail: expect.stringContaining('DATABASE_URL') },
    ]);
  });

  test('doctor reaches every engine, readyz agrees', async () => {
    const findings = (await json(['doctor'])) as { ok: boolean }[];
    expect(findings.length).toBe(4);
    expect(findings.every((finding) => finding.ok)).toBe(true);
    expect((await fetch(`${program.url}/readyz`)).status).toBe(200);
  });

  test('metrics of every thread stand on one page', async () => {
    const page = await eventually('metrics of all workers', SETTLE_MS, async () => {
      const text = await (await fetch(`${program.url}/metrics`)).text();
      const all = [
        'pinflow_edge_pins_total{outcome="accepted"} 501',
        'pinflow_archive_pins_total 501',
        'pinflow_stream_pins_total',
      ];
      return all.every((line) => text.includes(line)) ? text : null;
    });
    expect(page).toContain('process_resident_memory_bytes');
  });

  test('a second program on the same DATA_DIR or port fails at once and says what holds it', async () => {
    const same = await runCommand(env(), ['up']);
    expect(same.code).toBe(1);
    expect(same.stderr).toMatch(new RegExp(`held by process ${program.pid} .*DATA_DIR`));
    const other = mkdtempSync(join(tmpdir(), 'pinflow-other-'));
    const port = new URL(program.url).port;
    const taken = await runCommand({ DATA_DIR: other, PORT: port }, ['up']);
    rmSync(other, { recursive: true, force: true });
    expect(taken.code).toBe(1);
    expect(taken.stderr).toContain(`port ${port}`);
  });

  test('wrong settings and wrong SQL say what to do, and exit 1', async () => {
    const settings = await runCommand({ ...env(), ARCHIVE_MAX_PINS: 'many' }, ['up']);
    expect(settings.code).toBe(1);
    expect(settings.stderr).toContain('ARCHIVE_MAX_PINS="many"');
    const sql = await runCommand(env(), ['query', 'delete from userposts']);
    expect(sql.code).toBe(1);
    expect(sql.stdout).toBe('');
    expect(sql.stderr).toMatch(/^pinflow: /);
  });
});

describe('a shutdown and the next start', () => {
  test(
    'SIGTERM under load drains and exits 0, commands work without the program',
    async () => {
      const pins = Array.from({ length: 200 }, (_, i) =>
        JSON.stringify({ ...JSON.parse(seedPin), unique_id: crypto.randomUUID(), index: i }),
      );
      expect((await post('/pins', pins.join('\n'), 'application/x-ndjson')).status).toBe(200);
      expect(await program.kill('SIGTERM')).toBe(0);
      expect(program.output()).toContain('drained');
      expect(await json(['clean'])).toMatchObject([{ status: 'done' }]);
      const [row] = (await json(['query', 'select count(*) as pins from userposts'])) as { pins: number }[];
      expect(row?.pins).toBeGreaterThanOrEqual(501);
    },
    TIMEOUT_MS,
  );

  test(
    'the next start goes on where this one stopped',
    async () => {
      program = await startProgram({ ...env(), CLEAN_CRON: '* * * * * *' });
      const again = await post('/pin/', seedPin);
      expect(again.status).toBe(200);
      const result = (await json(['reconcile', '--wait', '90'])) as { counts: Record<string, number> };
      expect(result.counts).toEqual({ archive: 701, log: 701, speed: 701, embedded: 701 });
      expect(await program.kill('SIGINT')).toBe(0);
    },
    TIMEOUT_MS,
  );
});
