import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import fc from 'fast-check';
import { createLogger } from '../logger.ts';
import { join, recordOf, until } from './contract.ts';
import type { PinLog } from './log.ts';
import { partitionOf } from './partitioner.ts';
import { openSqliteLog } from './sqlite.ts';
import { openGroupStore } from './sqlite-groups.ts';
import { openRecordStore } from './sqlite-records.ts';
import { retentionStep } from './sqlite-retention.ts';

/** The embedded log against a plain model of it: lists of records, a start each, and what the group has committed. */
const PARTITIONS = 2;
const RETENTION_HOURS = 2;
const HOUR_MS = 3_600_000;
const SESSION_MS = 1000;

type ModelRecord = { readonly value: string; readonly timestamp: number; readonly commit: number };
type Model = {
  readonly records: ModelRecord[][];
  readonly starts: number[];
  readonly committed: Map<number, number>;
  now: number;
  commits: number;
};
type Real = { readonly dir: string; readonly handles: PinLog[]; readonly clock: { now: () => number } };
type LogCommand = fc.AsyncCommand<Model, Real>;

const text = new TextDecoder();

const current = (real: Real): PinLog => real.handles.at(-1) as PinLog;

const openHandle = async (real: Real) => {
  const log = await openSqliteLog({
    dir: real.dir,
    topic: 'pins',
    partitions: PARTITIONS,
    retentionHours: RETENTION_HOURS,
    retentionBytes: 2 ** 40,
    maxPendingBytes: 2 ** 28,
    groups: ['g'],
    logger: createLogger('silent', 'model'),
    clock: real.clock,
    sessionTimeoutMs: SESSION_MS,
  });
  real.handles.push(log);
};

const endOf = (model: Model, partition: number) => model.records[partition]?.length ?? 0;
const startOf = (model: Model, partition: number) => model.starts[partition] ?? 0;

/** What holds after every command. */
const check = async (model: Model, real: Real) => {
  const log = current(real);
  expect(await log.partitions()).toEqual(
    model.starts.map((start, partition) => ({ partition, start, end: endOf(model, partition) })),
  );
  expect(await log.committed('g')).toEqual(model.committed);
};

const command = (name: string, run: (model: Model, real: Real) => Promise<void>): LogCommand => ({
  check: () => true,
  run: async (model, real) => {
    await run(model, real);
    await check(model, real);
  },
  toString: () => name,
});

/** Several calls at once, each with several keys; they share one commit. */
const appendCalls = (calls: readonly (readonly string[])[]) =>
  command(`append(${JSON.stringify(calls)})`, async (model, real) => {
    const values = calls.map((keys, call) => keys.map((key, i) => `${key}:${call}:${i}`));
    const answers = await Promise.all(
      calls.map((keys, call) => current(real).append(keys.map((key, i) => recordOf(key, values[call]?.[i] ?? '')))),
    );
    const commit = ++model.commits;
    const expected = calls.map((keys, call) =>
      keys.map((key, i) => {
        const partition = partitionOf(key, PARTITIONS);
        const offset =
          (model.records[partition]?.push({ value: values[call]?.[i] ?? '', timestamp: model.now, commit }) ?? 0) - 1;
        return { partition, offset };
      }),
    );
    expect(answers).toEqual(expected);
  });

const readSome = (partition: number, from: number, limit: number) =>
  command(`read(${partition}, ${from}, ${limit})`, async (model, real) => {
    const read = await current(real).read({ partition, offset: from }, limit);
    const first = Math.max(from, startOf(model, partition));
    const expected = (model.records[partition] ?? []).slice(first, first + limit);
    expect(read.map((r) => [r.offset, text.decode(r.value), r.timestamp])).toEqual(
      expected.map((r, i) => [first + i, r.value, r.timestamp]),
    );
  });

/** Joins the group, reads all that is new, commits the first `percent` of it in each partition, leaves. */
const consumeSome = (maxRecords: number, percent: number) =>
  command(`consume(${maxRecords}, ${percent} %)`, async (model, real) => {
    const firsts = model.starts.map((start, partition) => Math.max(start, model.committed.get(partition) ?? 0));
    const expected = firsts.flatMap((first, partition) =>
      (model.records[partition] ?? []).slice(first).map((r, i) => `${partition}/${first + i} ${r.value}`),
    );
    const member = join(current(real), { maxRecords });
    await until('all is delivered', () => member.owned.size === PARTITIONS && member.records.length >= expected.length);
    for (const [partition, first] of firsts.entries()) {
      const next = first + Math.floor(((endOf(model, partition) - first) * percent) / 100);
      if (next === first) continue;
      await member.consumer.commit(partition, next);
      model.committed.set(partition, next);
    }
    await member.consumer.close();
    expect(member.records.map((r) => `${r.partition}/${r.offset} ${text.decode(r.value)}`).sort()).toEqual(
      expected.sort(),
    );
  });

const retain = command('retention', async (model, real) => {
  const records = await openRecordStore(path(real.dir, 'log-pins.db'), PARTITIONS);
  const groups = await openGroupStore(path(real.dir, 'log-pins.groups.db'), PARTITIONS, SESSION_MS);
  const options = { records, groups, knownGroups: ['g'], retentionHours: RETENTION_HOURS, retentionBytes: 2 ** 40 };
  while (retentionStep({ ...options, clock: real.clock }) > 0);
  records.close();
  groups.close();
  const cutoff = model.now - RETENTION_HOURS * HOUR_MS;
  for (const [partition, list] of model.records.entries()) {
    const floor = model.committed.get(partition) ?? 0;
    let start = startOf(model, partition);
    while (start < floor && (list[start]?.timestamp ?? cutoff) < cutoff) start += 1;
    // Records of one commit go together.
    while (start > startOf(model, partition) && list[start]?.commit === list[start - 1]?.commit) start -= 1;
    model.starts[partition] = start;
  }
});

const commands = [
  fc
    .array(fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'é'), { maxLength: 12 }), { minLength: 1, maxLength: 4 })
    .map(appendCalls),
  fc.tuple(fc.nat(PARTITIONS - 1), fc.nat(40), fc.integer({ min: 1, max: 20 })).map((args) => readSome(...args)),
  fc.tuple(fc.integer({ min: 1, max: 10 }), fc.constantFrom(0, 50, 100)).map((args) => consumeSome(...args)),
  fc.constant(retain),
  fc.integer({ min: 1, max: 3 }).map((hours) =>
    command(`${hours} h later`, async (model) => {
      model.now += hours * HOUR_MS;
    }),
  ),
  fc.constant(
    command('restart', async (_, real) => {
      await current(real).close();
      await openHandle(real);
    }),
  ),
  fc.constant(command('restart after a crash (nothing was closed)', (_, real) => openHandle(real))),
];

const runModel = async (sequence: Iterable<LogCommand>) => {
  const dir = await mkdtemp(path(tmpdir(), 'pinflow-model-'));
  const model: Model = {
    records: Array.from({ length: PARTITIONS }, () => []),
    starts: Array.from({ length: PARTITIONS }, () => 0),
    committed: new Map(),
    now: Date.UTC(2026, 0, 1),
    commits: 0,
  };
  const real: Real = { dir, handles: [], clock: { now: () => model.now } };
  await openHandle(real);
  try {
    await fc.asyncModelRun(() => ({ model, real }), sequence);
  } finally {
    await Promise.all(real.handles.map((log) => log.close()));
    await rm(dir, { recursive: true });
  }
};

describe('embedded log', () => {
  test('does what its model does', async () => {
    await fc.assert(fc.asyncProperty(fc.commands(commands, { maxCommands: 40, size: 'max' }), runModel), {
      numRuns: 60,
    });
  }, 120_000);
});
