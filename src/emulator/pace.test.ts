import { expect, test } from 'bun:test';
import { createPace } from './pace.ts';

test('with a rate, requests are due at even distances, however long each wait took', () => {
  let now = 1000;
  const pace = createPace(100, { now: () => now });
  expect(pace(1)).toBe(0);
  expect(pace(1)).toBe(10);
  now += 13;
  expect(pace(1)).toBe(7);
  now += 40;
  expect(pace(1)).toBe(0);
});

test('a batch takes the time of its pins', () => {
  const pace = createPace(1000, { now: () => 0 });
  expect([pace(500), pace(500), pace(1), pace(1)]).toEqual([0, 500, 1000, 1001]);
});

test('after a stall it goes on at its rate, without a burst', () => {
  let now = 0;
  const pace = createPace(10, { now: () => now });
  pace(1);
  now = 5000;
  expect([pace(1), pace(1), pace(1)]).toEqual([0, 100, 200]);
});

test('without a rate there are random gaps of up to a second, none before the first', () => {
  const random = [0.25, 0.999, 0].values();
  const pace = createPace(undefined, { now: () => 0 }, () => random.next().value ?? 0);
  expect([pace(1), pace(1), pace(1), pace(1)]).toEqual([0, 250, 999, 0]);
});
