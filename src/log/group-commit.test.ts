import { describe, expect, test } from 'bun:test';
import { isPinflowError } from '../errors.ts';
import { recordOf } from './contract.ts';
import { createGroupCommit, type GroupCommitOptions, sizeOf } from './group-commit.ts';
import type { NewRecord } from './log.ts';

type Calls = readonly (readonly NewRecord[])[];

/** A flush that numbers records and waits at a gate, if there is one. */
const recorder = (gate?: Promise<void>) => {
  const groups: Calls[] = [];
  let next = 0;
  let running = 0;
  const seen = { groups, mostAtOnce: 0 };
  const flush = async (calls: Calls) => {
    groups.push(calls);
    running += 1;
    seen.mostAtOnce = Math.max(seen.mostAtOnce, running);
    await gate;
    running -= 1;
    return calls.map((records) => records.map(() => ({ partition: 0, offset: next++ })));
  };
  return { ...seen, flush, most: () => seen.mostAtOnce };
};

const make = (flush: GroupCommitOptions['flush'], options: Partial<GroupCommitOptions> = {}) =>
  createGroupCommit({
    flush,
    maxBatchRecords: 100,
    maxBatchBytes: 1_000_000,
    maxPendingBytes: 1_000_000,
    lingerMs: 0,
    maxInFlight: 1,
    ...options,
  });

const one = (key: string) => [recordOf(key, 'value')];
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (isPinflowError(error) ? error.code : String(error)),
  );

describe('group commit', () => {
  test.each([0, 1])(
    'calls of one turn share a flush, and each gets its own result (linger %p ms)',
    async (lingerMs) => {
      const { flush, groups } = recorder();
      const commits = make(flush, { lingerMs });
      const results = await Promise.all([
        commits.append(one('a')),
        commits.append([...one('b'), ...one('c')]),
        commits.append(one('d')),
      ]);
      expect(results.map((positions) => positions.map((p) => p.offset))).toEqual([[0], [1, 2], [3]]);
      expect(groups.length).toBe(1);
    },
  );

  test('those who were answered and those who wait become one group, not two that take turns', async () => {
    const groups: number[] = [];
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const flush = async (calls: Calls) => {
      groups.push(calls.length);
      await turn();
      return calls.map(() => []);
    };
    const commits = make(flush, { lingerMs: 20, lingerAfterCalls: 4 });
    const caller = async () => {
      for (let n = 0; n < 5; n++) {
        await commits.append(one('a'));
        await turn();
      }
    };
    const callers = [caller(), caller(), caller(), caller()];
    while (groups.length === 0) await turn();
    callers.push(caller(), caller(), caller(), caller());
    await Promise.all(callers);
    expect(groups).toEqual([4, 8, 8, 8, 8, 4]);
  });

  test('few callers do not wait for others', async () => {
    const { flush, groups } = recorder();
    const commits = make(flush, { lingerMs: 60_000, lingerAfterCalls: 4 });
    for (let n = 0; n < 3; n++) await commits.append(one('a'));
    expect(groups.map((calls) => calls.length)).toEqual([1, 1, 1]);
  });

  test('keeps groups within the bounds, but never splits a call', async () => {
    const { flush, groups } = recorder();
    const commits = make(flush, { maxBatchRecords: 4 });
    const large = Array.from({ length: 10 }, (_, i) => recordOf(`large-${i}`, ''));
    await Promise.all([
      ...['a', 'b', 'c'].map((key) => commits.append(one(key))),
      commits.append(large),
      ...['d', 'e', 'f', 'g', 'h'].map((key) => commits.append(one(key))),
    ]);
    expect(groups.map((calls) => calls.flat().length)).toEqual([3, 10, 4, 1]);
  });

  test('flushes at most maxInFlight groups at once', async () => {
    for (const maxInFlight of [1, 3]) {
      const { flush, most } = recorder();
      const commits = make(flush, { maxBatchRecords: 1, maxInFlight });
      await Promise.all(Array.from({ length: 10 }, (_, i) => commits.append(one(`k${i}`))));
      expect(most()).toBe(maxInFlight);
    }
  });

  test('a failed flush fails the calls in it and no other', async () => {
    let flushes = 0;
    const commits = make(
      (calls) => {
        flushes += 1;
        if (flushes === 1) throw new Error('first group');
        return calls.map((records) => records.map((_, offset) => ({ partition: 0, offset })));
      },
      { maxBatchRecords: 2 },
    );
    const results = await Promise.allSettled(['a', 'b', 'c'].map((key) => commits.append(one(key))));
    expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected', 'fulfilled']);
    expect(commits.pendingBytes()).toBe(0);
  });

  test('past the bound a call is refused and not queued; a single larger call is taken alone', async () => {
    const gate = Promise.withResolvers<void>();
    const { flush, groups } = recorder(gate.promise);
    const [record] = one('a') as [NewRecord];
    const commits = make(flush, { maxPendingBytes: sizeOf(record) * 2 });
    const taken = [commits.append([record]), commits.append([record])];
    expect(await codeOf(commits.append([record]))).toBe('overloaded');
    expect(commits.pendingBytes()).toBe(sizeOf(record) * 2);
    gate.resolve();
    await Promise.all(taken);
    expect(commits.pendingBytes()).toBe(0);
    await commits.append([record, record, record]);
    expect(groups.flat().flat().length).toBe(5);
  });

  test('close flushes what waits and then refuses', async () => {
    const { flush, groups } = recorder();
    const commits = make(flush, { maxBatchRecords: 1, lingerMs: 60_000 });
    const waiting = ['a', 'b', 'c'].map((key) => commits.append(one(key)));
    await commits.close();
    await Promise.all(waiting);
    expect(groups.length).toBe(3);
    expect(await codeOf(commits.append(one('d')))).toBe('log_unavailable');
  });
});
