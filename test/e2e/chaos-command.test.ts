import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ChaosReport } from '../../src/chaos/report.ts';
import { postPins } from '../../src/chaos/traffic.ts';
import { systemClock } from '../../src/clock.ts';
import { eventually, type Running, runCommand, startProgram } from './program.ts';

setDefaultTimeout(300_000);
const SETTLE_MS = 120_000;

test('`chaos` on embedded parts injures in every way, loses nothing and says so', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-chaos-command-'));
  const out = join(dir, 'report.md');
  const args = ['--pins', '6000', '--seconds', '12', '--seed', '3', '--format', 'json', '--out', out];
  const { code, stdout, stderr } = await runCommand({}, ['chaos', ...args]);
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  const report = JSON.parse(stdout) as ChaosReport;
  expect(report).toMatchObject({ seed: 3, acked: 6000, lost: 0, duplicated: 0 });
  expect(report.places.map(({ place }) => place)).toEqual(['log', 'archive', 'batch view (embedded)', 'speed view']);
  for (const place of report.places) expect(place).toMatchObject({ ids: report.ids, lost: 0, duplicated: 0 });
  expect(Object.keys(report.faults).length).toBe(10);
  expect(Object.values(report.faults).every((times) => times > 0)).toBe(true);
  const page = readFileSync(out, 'utf8');
  rmSync(dir, { recursive: true });
  expect(page).toContain('**6000 pins acked, lost 0, duplicated 0.**');
  expect(page).toContain('| kill -9 of both at once |');
});

const mountPoint = mkdtempSync(join(tmpdir(), 'pinflow-small-disk-'));
const mounted = Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', mountPoint]);
if (!mounted.success)
  console.warn(`skipped: a full disk (needs the right to mount a tmpfs: ${mounted.stderr.toString().trim()})`);

describe.skipIf(!mounted.success)('a disk that is full for a while', () => {
  let program: Running | undefined;
  afterAll(async () => {
    await program?.kill('SIGKILL');
    Bun.spawnSync(['umount', mountPoint]);
    rmSync(mountPoint, { recursive: true, force: true });
  });

  test('is told by 507, and costs no pin that was acked', async () => {
    const filler = join(mountPoint, 'filler');
    const env = { DATA_DIR: join(mountPoint, 'data'), ARCHIVE_MAX_SECONDS: '1', CLEAN_CRON: '*/2 * * * * *' };
    program = await startProgram(env);
    const { url } = program;
    await eventually('all parts are ready', SETTLE_MS, async () =>
      (await fetch(`${url}/readyz`)).status === 200 ? true : null,
    );
    const signal = new AbortController().signal;
    const posting = postPins({ url, pins: 6000, seconds: 6, seed: 5, clock: systemClock, signal });
    const fill = () => {
      const file = openSync(filler, 'a');
      try {
        for (;;) writeSync(file, Buffer.alloc(64 * 1024));
      } catch (error) {
        expect((error as { code?: string }).code).toBe('ENOSPC');
      } finally {
        closeSync(file);
      }
    };
    await eventually('pins are refused', SETTLE_MS, async () => {
      // Again and again: what the program frees is taken at once.
      fill();
      return /_requests_total\{[^}]*status="507"\} [1-9]/.test(await (await fetch(`${url}/metrics`)).text())
        ? true
        : null;
    });
    rmSync(filler);
    const traffic = await posting;
    expect(traffic.posted).toBe(6000);
    expect(traffic.statuses[507]).toBeGreaterThan(0);
    const { stdout } = await runCommand(env, ['reconcile', '--wait', '120', '--format', 'json']);
    const ids = traffic.acked.size;
    expect(JSON.parse(stdout)).toMatchObject({
      equal: true,
      counts: { log: ids, archive: ids, speed: ids, embedded: ids },
    });
    expect(await program.kill('SIGTERM')).toBe(0);
  });
});
