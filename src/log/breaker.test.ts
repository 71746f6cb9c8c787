import { describe, expect, test } from 'bun:test';
import { createBreaker, type Pass } from './breaker.ts';

const make = () => {
  const changes: string[] = [];
  const failedProbes: unknown[] = [];
  const time = { now: 0 };
  const breaker = createBreaker({
    baseMs: 100,
    maxMs: 350,
    now: () => time.now,
    onOpen: (error) => changes.push(`open: ${error}`),
    onFailedProbe: (error) => failedProbes.push(error),
    onClose: () => changes.push('closed'),
  });
  return { breaker, changes, failedProbes, time };
};

const leave = (pass: Pass | null): Pass => {
  if (pass === null) throw new Error('there was no leave');
  return pass;
};

describe('breaker', () => {
  test('lets all calls through until one fails, then none', () => {
    const { breaker, changes } = make();
    leave(breaker.pass()).succeeded();
    leave(breaker.probe()).undecided();
    expect(breaker.waitMs()).toBe(0);
    leave(breaker.pass()).failed('gone');
    expect([breaker.pass(), breaker.probe(), breaker.waitMs()]).toEqual([null, null, 100]);
    expect(changes).toEqual(['open: gone']);
  });

  test('lets one probe through when the wait is over; its success closes it', () => {
    const { breaker, changes, time } = make();
    leave(breaker.pass()).failed('gone');
    time.now = 100;
    expect(breaker.pass()).toBeNull();
    const probe = leave(breaker.probe());
    expect(breaker.probe()).toBeNull();
    expect(breaker.waitMs()).toBeGreaterThan(0);
    probe.succeeded();
    leave(breaker.pass()).succeeded();
    expect(changes).toEqual(['open: gone', 'closed']);
  });

  test('waits longer after each probe that fails, up to the bound, and as at first once it was closed', () => {
    const { breaker, changes, failedProbes, time } = make();
    leave(breaker.pass()).failed('gone');
    const waits = [1, 2, 3, 4].map(() => {
      time.now += breaker.waitMs();
      leave(breaker.probe()).failed('still gone');
      return breaker.waitMs();
    });
    expect(waits).toEqual([200, 350, 350, 350]);
    time.now += breaker.waitMs();
    leave(breaker.probe()).succeeded();
    leave(breaker.pass()).failed('again');
    expect(breaker.waitMs()).toBe(100);
    expect(changes).toEqual(['open: gone', 'closed', 'open: again']);
    expect(failedProbes).toEqual(Array(4).fill('still gone'));
  });

  test('a probe without a word on the broker makes room for the next', () => {
    const { breaker, time } = make();
    leave(breaker.pass()).failed('gone');
    time.now = 100;
    leave(breaker.probe()).undecided();
    expect(breaker.probe()).not.toBeNull();
  });

  test('calls that began before a change have nothing to say after it', () => {
    const { breaker, changes, time } = make();
    const [first, second, third] = [1, 2, 3].map(() => leave(breaker.pass()));
    first?.failed('gone');
    time.now = 50;
    second?.failed('late');
    expect(breaker.waitMs()).toBe(50);
    time.now = 100;
    leave(breaker.probe()).succeeded();
    third?.failed('very late');
    expect(breaker.pass()).not.toBeNull();
    expect(changes).toEqual(['open: gone', 'closed']);
  });
});
