import { describe, expect, test } from 'bun:test';
import { PinflowError } from './errors.ts';
import { type RetryOptions, retry, sleep } from './retry.ts';

const again = new PinflowError('log_unavailable', 'not now', { retryable: true });
const never = new PinflowError('config', 'not ever');

/** Fails with each of `errors` in turn, then answers how often it was called. */
const failing = (...errors: readonly unknown[]) => {
  const calls: number[] = [];
  const work = async (attempt: number) => {
    calls.push(attempt);
    if (calls.length <= errors.length) throw errors[calls.length - 1];
    return calls.length;
  };
  return { work, calls };
};

const options = (more: Partial<RetryOptions> = {}): RetryOptions => ({ attempts: 5, baseMs: 0, maxMs: 0, ...more });

describe('retry', () => {
  test('a success is not called again', async () => {
    const { work, calls } = failing();
    expect(await retry(work, options())).toBe(1);
    expect(calls).toEqual([1]);
  });

  test('errors that say so are tried again, the attempt counted', async () => {
    const { work, calls } = failing(again, again);
    expect(await retry(work, options())).toBe(3);
    expect(calls).toEqual([1, 2, 3]);
  });

  test('an error that does not say so is thrown at once', async () => {
    for (const error of [never, new Error('a bug'), 'text', undefined]) {
      const { work, calls } = failing(error);
      expect(await retry(work, options()).catch((thrown: unknown) => thrown)).toBe(error as Error);
      expect(calls).toEqual([1]);
    }
  });

  test('attempts count the first call too; the last error is thrown', async () => {
    const last = new PinflowError('log_unavailable', 'the last', { retryable: true });
    const { work, calls } = failing(again, again, last);
    await expect(retry(work, options({ attempts: 3 }))).rejects.toBe(last);
    expect(calls).toHaveLength(3);
  });

  test('which errors are worth it can be said', async () => {
    const { work } = failing(new Error('flaky'), new Error('flaky'));
    expect(await retry(work, options({ retryable: (error) => error instanceof Error }))).toBe(3);
  });

  test('waits double up to the largest, with up to a fifth taken off', async () => {
    const waits: number[] = [];
    const { work } = failing(again, again, again, again);
    await retry(work, { attempts: 9, baseMs: 1, maxMs: 5, onRetry: (_, __, waitMs) => waits.push(waitMs) });
    for (const [i, most] of [1, 2, 4, 5].entries()) {
      expect(waits[i]).toBeLessThanOrEqual(most);
      expect(waits[i]).toBeGreaterThanOrEqual(most * 0.8);
    }
  });

  test('before each wait the error and the attempt are told', async () => {
    const told: unknown[] = [];
    const { work } = failing(again, again);
    await retry(work, options({ onRetry: (error, attempt) => told.push([error, attempt]) }));
    expect(told).toEqual([
      [again, 1],
      [again, 2],
    ]);
  });

  test('a signal ends a long wait, and the error is thrown', async () => {
    const stop = new AbortController();
    const { work, calls } = failing(again);
    const waiting = { attempts: Number.POSITIVE_INFINITY, baseMs: 1e9, maxMs: 1e9, signal: stop.signal };
    await expect(retry(work, { ...waiting, onRetry: () => queueMicrotask(() => stop.abort()) })).rejects.toBe(again);
    expect(calls).toHaveLength(1);
  });

  test('with a signal that is aborted already the work is done once', async () => {
    const { work, calls } = failing(again);
    await expect(retry(work, options({ signal: AbortSignal.abort() }))).rejects.toBe(again);
    expect(calls).toHaveLength(1);
  });
});

describe('sleep', () => {
  test('ends at once when the signal aborts, before or during', async () => {
    const stop = new AbortController();
    const during = sleep(1e9, stop.signal);
    stop.abort();
    await during;
    await sleep(1e9, stop.signal);
  });

  test('ends by itself', async () => {
    await sleep(1, new AbortController().signal);
    await sleep(0);
  });
});
