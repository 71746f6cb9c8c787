import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { risingMicros } from './clock.ts';
import { writeTimestamp } from './pin/pin.ts';

/** A clock that shows these milliseconds one after the other. */
const clockOf = (times: readonly number[]) => {
  let next = 0;
  return { now: () => times[next++] ?? 0 };
};

const anyTimes = fc.array(fc.integer({ min: 1_767_225_600_000, max: 1_767_225_600_003 }), {
  minLength: 1,
  maxLength: 50,
});

describe('risingMicros', () => {
  test('follows the clock, one microsecond a pin within a millisecond', () => {
    const stamp = risingMicros(clockOf([5, 5, 5, 6]));
    expect([stamp(), stamp(), stamp(), stamp()]).toEqual([5001, 5002, 5003, 6001]);
  });

  test('a clock that jumps back is held at the last stamp', () => {
    const stamp = risingMicros(clockOf([9, 3, 3, 10]));
    expect([stamp(), stamp(), stamp(), stamp()]).toEqual([9001, 9002, 9003, 10_001]);
  });

  test('a jump back across a restart is held at the floor', () => {
    const stamp = risingMicros(clockOf([3, 3]), 9500);
    expect([stamp(), stamp()]).toEqual([9501, 9502]);
  });

  test('more than 999 pins in a millisecond go on past the whole millisecond', () => {
    const stamp = risingMicros({ now: () => 1 });
    const stamps = Array.from({ length: 1000 }, stamp);
    expect([stamps[998], stamps[999]]).toEqual([1999, 2001]);
  });

  test('property: strictly rising, never behind the clock, never a whole millisecond', () => {
    fc.assert(
      fc.property(anyTimes, fc.nat(), (times, floor) => {
        const stamp = risingMicros(clockOf(times), floor);
        let last = floor;
        for (const time of times) {
          const micros = stamp();
          expect(micros).toBeGreaterThan(last);
          expect(micros).toBeGreaterThan(time * 1000);
          expect(micros % 1000).not.toBe(0);
          last = micros;
        }
      }),
    );
  });

  test('property: of two posts of one id at one edge the later wins, wherever they stand in the log', () => {
    fc.assert(
      fc.property(anyTimes, fc.array(fc.nat(), { minLength: 50, maxLength: 50 }), (times, offsets) => {
        const stamp = risingMicros(clockOf(times));
        const versions = times.map((_, i) => writeTimestamp(stamp(), offsets[i] ?? 0));
        expect(versions).toEqual(versions.toSorted((a, b) => a - b));
        expect(new Set(versions).size).toBe(versions.length);
      }),
    );
  });
});
