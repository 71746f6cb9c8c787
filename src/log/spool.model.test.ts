import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { isPinflowError } from '../errors.ts';
import { createLogger } from '../logger.ts';
import { recordOf, until } from './contract.ts';
import { sizeOf } from './group-commit.ts';
import type { Inlet } from './inlet.ts';
import { withSpool } from './spool.ts';
import { type Mood, type MoodyLog, openMoodyLog } from './spool-faults.fixture.ts';

/**
 * The spool against a plain model of it: what was acked, and where. Answers are checked as they come; at the end the broker is well, and all that was acked must be in the log, in the order of its spooling.
 */
const MAX_BYTES = 3000;
const DEADLINE_MS = 60;

type Model = {
  mood: Mood;
  serial: number;
  /** Values acked by the broker, and by the spool in the order of their acks. */
  readonly taken: string[];
  readonly spooled: string[];
};
type Real = { readonly dir: string; readonly log: MoodyLog; inlet: Inlet };
type SpoolCommand = fc.AsyncCommand<Model, Real>;

const open = (dir: string, log: MoodyLog): Promise<Inlet> =>
  withSpool(log, { dir, maxBytes: MAX_BYTES, deadlineMs: DEADLINE_MS, logger: createLogger('silent', 'model') });

const command = (name: string, run: (model: Model, real: Real) => Promise<void>): SpoolCommand => ({
  check: () => true,
  run,
  toString: () => name,
});

const bytesOf = (values: readonly string[]): number =>
  values.reduce((sum, value) => sum + sizeOf(recordOf('k', value)), 0);

/** Several calls at once, each of so many records of that many bytes. */
const append = (calls: readonly (readonly [count: number, bytes: number])[]) =>
  command(`append(${JSON.stringify(calls)})`, async (model, { inlet }) => {
    const given = calls.map(([count, bytes]) =>
      Array.from({ length: count }, () => `${model.serial++} `.padEnd(bytes, '.')),
    );
    const asked = given.flat();
    await Promise.all(
      given.map(async (values) => {
        const records = values.map((value) => recordOf('k', value));
        try {
          const { durability, positions } = await inlet.append(records);
          expect(positions?.length ?? null).toBe(durability === 'spool' ? null : values.length);
          (durability === 'spool' ? model.spooled : model.taken).push(...values);
          // One that is well may still be locked out; one that is not has acked nothing.
          if (model.mood !== 'well') expect(durability).toBe('spool');
        } catch (error) {
          expect(isPinflowError(error, 'overloaded')).toBe(true);
          // Only a spool that can be full may say so.
          expect(bytesOf([...model.spooled, ...asked])).toBeGreaterThan(MAX_BYTES);
        }
      }),
    );
  });

const mood = (next: Mood) =>
  command(next, async (model, { log }) => {
    model.mood = next;
    log.setMood(next);
  });

const restart = command('restart', async (_, real) => {
  await real.inlet.close();
  real.inlet = await open(real.dir, real.log);
});

const wait = (ms: number) => command(`wait(${ms})`, () => Bun.sleep(ms));

const commands = [
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.constantFrom(10, 100, 600)), { minLength: 1, maxLength: 3 })
    .map(append),
  fc.constantFrom<Mood>('well', 'down', 'lying', 'hung', 'mute').map(mood),
  fc.constant(restart),
  fc.integer({ min: 1, max: 400 }).map(wait),
];

/** The last place of each value: where its newest copy stands. */
const inOrder = (values: readonly string[], log: readonly string[]): boolean => {
  const last = new Map(log.map((value, i) => [value, i]));
  const places = values.map((value) => last.get(value) ?? -1);
  return places.every((place, i) => place >= 0 && (i === 0 || place > (places[i - 1] as number)));
};

const runModel = async (sequence: Iterable<SpoolCommand>) => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-spool-model-'));
  const log = await openMoodyLog(dir);
  const model: Model = { mood: 'well', serial: 0, taken: [], spooled: [] };
  const real: Real = { dir, log, inlet: await open(dir, log) };
  try {
    await fc.asyncModelRun(() => ({ model, real }), sequence);
    log.setMood('well');
    await real.inlet.close();
    real.inlet = await open(dir, log);
    await until('all that was acked is in the log', async () => {
      const values = new Set(await log.values());
      return [...model.taken, ...model.spooled].every((value) => values.has(value));
    });
    expect(inOrder(model.spooled, await log.values())).toBe(true);
  } finally {
    await real.inlet.close();
    await log.close();
    rmSync(dir, { recursive: true });
  }
};

test('the spool loses nothing that it acked and keeps its order, whatever the broker does', async () => {
  await fc.assert(fc.asyncProperty(fc.commands(commands, { maxCommands: 12, size: 'max' }), runModel), {
    numRuns: 25,
  });
}, 300_000);
