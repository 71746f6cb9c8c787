import { describe, expect, test } from 'bun:test';
import { createPace } from './stream-pace.ts';

const pace = (pinsPerMs: number | null) => {
  const made = createPace({ latencyMs: 100, catchUpMs: 1000, maxPins: 5000 });
  if (pinsPerMs !== null) made.observe(1000, 1000 / pinsPerMs);
  return made;
};

describe('the size of a micro-batch', () => {
  const cases = [
    ['nothing measured yet', null, 10, 5000],
    ['keeps up: what is written within the latency goal', 20, 2000, 2000],
    ['further behind than that: what is written within the catch-up goal, up to the bound', 20, 2001, 5000],
    ['a slow server in catch-up', 2, 100_000, 2000],
    ['a slow server that keeps up', 2, 150, 200],
    ['a server that hardly answers still gets the least', 0.01, 100_000, 100],
    ['a fast one never more than the bound', 1000, 100_000, 5000],
  ] as const;
  for (const [name, rate, behind, want] of cases) {
    test(name, () => expect(pace(rate).limit(behind)).toBe(want));
  }

  test('follows the server, and one slow commit does not turn it over', () => {
    const made = pace(20);
    made.observe(1000, 10_000);
    expect(made.limit(100_000)).toBe(5000);
    for (let n = 0; n < 30; n++) made.observe(1000, 1000);
    expect(made.limit(100_000)).toBeGreaterThanOrEqual(1000);
    expect(made.limit(100_000)).toBeLessThan(1100);
  });

  test('a small batch says nothing of how many would fit', () => {
    const made = pace(null);
    made.observe(3, 50);
    expect(made.limit(1)).toBe(5000);
  });
});
