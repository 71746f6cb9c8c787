import { describe, expect, test } from 'bun:test';
import type { Sample } from '../../deps.ts';
import { quantile, quantileSeries, rateNow, rateSeries, risenBuckets, risenFields, spanOf } from './model.ts';

const sample = (at: number, over: Partial<Sample> = {}): Sample => ({
  at,
  pins: { edge: 0 },
  lag: {},
  rejected: 0,
  errors: 0,
  durable: [0, 0],
  batches: [0, 0],
  fields: {},
  ...over,
});
const edge = (at: number, pins: number) => sample(at, { pins: { edge: pins } });
const edgePins = ({ pins }: Sample) => pins.edge ?? 0;

describe('rates', () => {
  test('are counts over time, smoothed over some seconds', () => {
    const samples = Array.from({ length: 10 }, (_, i) => edge(i * 1000, i * 50));
    const { times, values } = rateSeries(samples, edgePins);
    expect(times[1]).toBe(1);
    expect(values[0]).toBeNull();
    expect(values.slice(1)).toEqual(Array(9).fill(50));
    expect(rateNow(samples, 'edge')).toBe(50);
  });

  test('a burst is spread over the window, and gone after it', () => {
    const samples = [0, 0, 60, 60, 60, 60, 60, 60, 60, 60].map((pins, i) => edge(i * 1000, pins));
    const { values } = rateSeries(samples, edgePins);
    expect(values[2]).toBe(30);
    expect(values.at(-1)).toBe(0);
  });

  test('a restart is a gap, not a fall below zero', () => {
    const samples = [edge(0, 100), edge(1000, 200), edge(2000, 5), edge(3000, 10)];
    const { values } = rateSeries(samples, edgePins);
    expect(values[2]).toBeNull();
    expect(values.every((value) => value === null || value >= 0)).toBe(true);
  });

  test('of nothing and of one sample are unknown', () => {
    expect(rateNow([], 'edge')).toBeNull();
    expect(rateNow([edge(0, 5)], 'edge')).toBeNull();
  });
});

describe('quantiles', () => {
  const cases: readonly (readonly [readonly number[], readonly number[], number, number | null])[] = [
    [[1, 2, 4], [0, 0, 0, 0], 0.5, null],
    [[1, 2, 4], [10, 0, 0, 0], 0.5, 0.5],
    [[1, 2, 4], [5, 5, 0, 0], 0.5, 1],
    [[1, 2, 4], [0, 0, 10, 0], 0.99, 3.98],
    [[1, 2, 4], [0, 0, 0, 3], 0.5, 4],
    [[], [3], 0.5, 0],
  ];
  for (const [bounds, counts, q, wanted] of cases) {
    test(`${q} of ${counts} in ${bounds} is ${wanted}`, () => expect(quantile(bounds, counts, q)).toBe(wanted));
  }

  test('over time are of what came between', () => {
    const samples = [
      sample(0, { durable: [10, 0] }),
      sample(7000, { durable: [10, 0] }),
      sample(14_000, { durable: [10, 4] }),
    ];
    expect(quantileSeries(samples, [1], ({ durable }) => durable, 0.5).values).toEqual([null, null, 1]);
  });
});

describe('what rose', () => {
  test('is summed over a restart, of which only what fell into it is lost', () => {
    const samples = [
      [5, 1],
      [8, 1],
      [2, 0],
      [4, 3],
    ].map((batches, i) => sample(i * 1000, { batches }));
    expect(risenBuckets(samples, ({ batches }) => batches)).toEqual([5, 3]);
  });

  test('by field, most first; a field that came later counts from nothing', () => {
    const samples = [sample(0, { fields: { title: 1 } }), sample(1000, { fields: { title: 2, tag_list: 4 } })];
    expect(risenFields(samples)).toEqual([
      ['tag_list', 4],
      ['title', 1],
    ]);
  });
});

test('a span is said in seconds, then minutes', () => {
  expect(spanOf([edge(0, 0), edge(30_000, 0)])).toBe('30 s');
  expect(spanOf([edge(0, 0), edge(600_000, 0)])).toBe('10 min');
});
