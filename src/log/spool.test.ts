import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isPinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { recordOf, until } from './contract.ts';
import type { Inlet } from './inlet.ts';
import { type SpoolOptions, withSpool } from './spool.ts';
import { type Mood, type MoodyLog, openMoodyLog } from './spool-faults.fixture.ts';

/** Milliseconds; a busy machine may be slow, a wrong program waits for ever. */
setDefaultTimeout(60_000);

const MIB = 1024 * 1024;
/** So long that a test which waited for it would be seen to. */
const LONG_MS = 20_000;

type Setup = {
  readonly dir: string;
  readonly log: MoodyLog;
  readonly inlet: Inlet;
  /** A start after a stop: the same file, the same log. */
  readonly reopen: (options?: Partial<SpoolOptions>) => Promise<Inlet>;
  readonly metric: (name: string, outcome?: string) => Promise<number>;
};

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
});

const setUp = async (mood: Mood, options: Partial<SpoolOptions> = {}): Promise<Setup> => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-spool-'));
  toClose.push(() => rmSync(dir, { recursive: true }));
  const log = await openMoodyLog(dir);
  toClose.push(log.close);
  log.setMood(mood);
  const metrics = createMetrics();
  const logger = createLogger('silent', 'test');
  const reopen = async (more: Partial<SpoolOptions> = {}) => {
    const inlet = await withSpool(log, { dir, maxBytes: MIB, deadlineMs: 200, logger, metrics, ...options, ...more });
    toClose.push(inlet.close);
    return inlet;
  };
  const metric = async (name: string, outcome?: string) => {
    const { values } = await (metrics.registry.getSingleMetric(name)?.get() ?? { values: [] });
    return values.find(({ labels }) => (labels as { outcome?: string }).outcome === outcome)?.value ?? 0;
  };
  return { dir, log, inlet: await reopen(), reopen, metric };
};

const append = (inlet: Inlet, ...values: readonly string[]) =>
  inlet.append(values.map((value) => recordOf('k', value)));

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  return isPinflowError(error) ? error.code : String(error);
};

const SPOOLED = { durability: 'spool', positions: null } as const;
const inLog = (log: MoodyLog, count: number) =>
  until(`${count} records are in the log`, async () => (await log.values()).length >= count);
const isEmpty = ({ metric }: Setup) =>
  until('the spool is empty', async () => (await metric('pinflow_spool_records')) === 0);
/** Who is told of an outage may send no pin until it is over: where no pin waits nothing else would end it. */
const isNotBlamed = (inlet: Inlet) => until('no outage is told of', () => inlet.state().outage === null);

describe('withSpool', () => {
  test('a broker that is well takes the pins itself', async () => {
    const { log, inlet, metric } = await setUp('well');
    expect(await append(inlet, 'a', 'b')).toEqual({
      durability: 'broker',
      positions: [
        { partition: 0, offset: 0 },
        { partition: 0, offset: 1 },
      ],
    });
    expect(await log.values()).toEqual(['a', 'b']);
    expect(await metric('pinflow_spool_pins_total', 'spooled')).toBe(0);
  });

  test('what a broker that is down does not take is in the log, in order, once it is back', async () => {
    const setup = await setUp('down');
    const { log, inlet, metric } = setup;
    const values = Array.from({ length: 1200 }, (_, i) => `v${i}`);
    for (let i = 0; i < values.length; i += 100)
      expect(await append(inlet, ...values.slice(i, i + 100))).toEqual(SPOOLED);
    expect(await metric('pinflow_spool_records')).toBe(1200);
    expect(await metric('pinflow_spool_bytes')).toBeGreaterThan(1200 * 64);
    log.setMood('well');
    await isEmpty(setup);
    expect(await log.values()).toEqual(values);
    expect(await metric('pinflow_spool_bytes')).toBe(0);
    expect(await metric('pinflow_spool_pins_total', 'spooled')).toBe(1200);
    expect(await metric('pinflow_spool_pins_total', 'forwarded')).toBe(1200);
    expect((await append(inlet, 'new')).durability).toBe('broker');
  });

  test('says that it is in use, why, and how much waits in it', async () => {
    const setup = await setUp('down');
    const { log, inlet } = setup;
    expect(inlet.state()).toEqual({ outage: null, spooled: 0 });
    await append(inlet, 'a', 'b');
    expect(inlet.state()).toEqual({ outage: expect.stringContaining('down'), spooled: 2 });
    log.setMood('well');
    await isEmpty(setup);
    expect(inlet.state()).toEqual({ outage: null, spooled: 0 });
  });

  test('keys, values and headers come through byte for byte', async () => {
    const { log, inlet } = await setUp('down');
    const headers = { stage: 'x', é: 'ü🔑', empty: '' };
    const value = new Uint8Array([0, 1, 0, 255, 254, 0]);
    await inlet.append([{ key: 'ключ-🔑', value, headers }, recordOf('', '')]);
    log.setMood('well');
    await inLog(log, 2);
    const [odd, empty] = await log.records();
    expect([odd?.key, [...(odd?.value ?? [])], odd?.headers]).toEqual(['ключ-🔑', [...value], headers]);
    expect([empty?.key, empty?.value.length, empty?.headers]).toEqual(['', 0, {}]);
  });

  for (const mood of ['hung', 'mute'] as const) {
    test(`a broker that is ${mood} costs one deadline, not one a request`, async () => {
      const { log, inlet } = await setUp(mood, { deadlineMs: 400 });
      expect(await append(inlet, 'first')).toEqual(SPOOLED);
      const calls = log.calls();
      // The forwarder's own attempt never ends in these moods, so a call more would be a request's.
      await until('the forwarder probes', () => log.calls() === calls + 1);
      for (const value of ['second', 'third', 'fourth']) expect(await append(inlet, value)).toEqual(SPOOLED);
      expect(log.calls()).toBe(calls + 1);
    });
  }

  test('a record whose answer was lost is in the log at least once, and no other is lost or put before it', async () => {
    const setup = await setUp('lying');
    const { log, inlet } = setup;
    for (const value of ['a', 'b', 'c']) expect(await append(inlet, value)).toEqual(SPOOLED);
    await inLog(log, 6);
    log.setMood('well');
    await isEmpty(setup);
    const values = await log.values();
    expect(values.slice(-3)).toEqual(['a', 'b', 'c']);
    expect(new Set(values)).toEqual(new Set(['a', 'b', 'c']));
  });

  test('past the bound it is overloaded, and nothing of the call is kept; what is there still gets through', async () => {
    const setup = await setUp('down');
    const { log, inlet, metric } = setup;
    const large = 'x'.repeat(300_000);
    const calls = await Promise.all(Array.from({ length: 6 }, () => append(inlet, large).catch((e: unknown) => e)));
    expect(calls.filter((answer) => isPinflowError(answer, 'overloaded')).length).toBe(3);
    expect(await codeOf(append(inlet, 'small', large))).toBe('overloaded');
    expect(await append(inlet, 'small')).toEqual(SPOOLED);
    expect(await metric('pinflow_spool_bytes')).toBeLessThanOrEqual(MIB);
    log.setMood('well');
    await isEmpty(setup);
    expect((await log.values()).map((v) => v.length)).toEqual([300_000, 300_000, 300_000, 5]);
  });

  test('a spool that is too small for anything does not keep the broker locked out', async () => {
    const { log, inlet } = await setUp('down', { maxBytes: 10 });
    expect(await codeOf(append(inlet, 'a'))).toBe('overloaded');
    await isNotBlamed(inlet);
    log.setMood('well');
    await until('a request finds the broker back', async () => (await codeOf(append(inlet, 'b'))) === 'null');
    expect(await log.values()).toEqual(['b']);
  });

  test('what no other attempt would mend is not spooled, and says nothing against the broker', async () => {
    const { log, inlet, metric } = await setUp('well');
    log.setLargest(10);
    expect(await codeOf(append(inlet, 'more than ten bytes'))).toBe('too_large');
    expect((await append(inlet, 'small')).durability).toBe('broker');
    expect(await metric('pinflow_spool_records')).toBe(0);
  });

  test('a spooled record the broker then refuses holds up no other, stays, and goes after a start when it may', async () => {
    const { log, inlet, reopen, metric } = await setUp('down');
    log.setLargest(10);
    await append(inlet, 'a', 'b', 'this one is too large', 'c');
    await append(inlet, 'this one is too large too', 'd');
    log.setMood('well');
    await until('all others are through', async () => (await metric('pinflow_spool_records')) === 2);
    expect(await log.values()).toEqual(['a', 'b', 'c', 'd']);
    expect(await metric('pinflow_spool_pins_total', 'refused')).toBe(2);
    expect((await append(inlet, 'new')).durability).toBe('broker');
    log.setMood('down');
    expect(await append(inlet, 'later')).toEqual(SPOOLED);
    log.setMood('well');
    await inLog(log, 6);
    await inlet.close();
    log.setLargest(1000);
    await reopen();
    await inLog(log, 8);
    expect((await log.values()).slice(-4)).toEqual([
      'new',
      'later',
      'this one is too large',
      'this one is too large too',
    ]);
  });

  test('new pins do not wait for the spool', async () => {
    const { log, inlet, metric } = await setUp('down', { maxBytes: 100 * MIB });
    const filler = 'x'.repeat(100_000);
    for (let i = 0; i < 40; i++) await append(inlet, ...Array.from({ length: 10 }, () => filler));
    log.setMood('well');
    await until('the broker is found back', async () => (await append(inlet, 'new')).durability === 'broker');
    expect(await metric('pinflow_spool_records')).toBeGreaterThan(0);
    expect(await log.values()).toContain('new');
  });

  test('what a stop leaves in the spool goes at the next start', async () => {
    const { log, inlet, reopen } = await setUp('down', { deadlineMs: LONG_MS });
    await append(inlet, 'a', 'b');
    await inlet.close();
    await inlet.close();
    expect(await codeOf(append(inlet, 'c'))).toBe('log_unavailable');
    log.setMood('well');
    await reopen();
    await inLog(log, 2);
    expect(await log.values()).toEqual(['a', 'b']);
  });

  test('a stop does not wait for a batch that hangs', async () => {
    const { log, inlet, reopen } = await setUp('hung');
    await append(inlet, 'a');
    await until('the forwarder hangs too', () => log.calls() === 2);
    await inlet.close();
    log.setMood('well');
    await reopen();
    await inLog(log, 1);
    expect(await log.values()).toEqual(['a']);
  });

  test('a broker that answers, but past the deadline, has its batches sent while requests go on without it', async () => {
    const setup = await setUp('well', { deadlineMs: 200 });
    const { log, inlet } = setup;
    log.setSlowness(500);
    expect(await append(inlet, 'a')).toEqual(SPOOLED);
    await isEmpty(setup);
    await isNotBlamed(inlet);
    expect(await append(inlet, 'b')).toEqual(SPOOLED);
    log.setSlowness(0);
    await until('it is fast again', async () => (await append(inlet, 'c')).durability === 'broker');
    await isEmpty(setup);
    expect(new Set(await log.values())).toEqual(new Set(['a', 'b', 'c']));
  });

  test('a file that is not a spool is told from one, and left alone', async () => {
    const { dir, inlet, reopen } = await setUp('well');
    await inlet.close();
    writeFileSync(join(dir, 'spool-pins.db'), 'this is no database, but somebody may need it\n'.repeat(200));
    expect(await codeOf(reopen())).toBe('config');
  });
});
