/** Time is injected, so that tests and the simulator can move it. Milliseconds since the Unix epoch. */
export type Clock = { readonly now: () => number };

export const systemClock: Clock = { now: () => Date.now() };

/**
 * Strictly rising microseconds since the Unix epoch, for `received_at`: two pins stamped by one edge never share a
 * stamp, and a wall clock that jumps back does not make a later pin look older (it is held at the last stamp and
 * goes on by one microsecond a pin until the wall clock has caught up).
 *
 * No stamp is a whole millisecond: those are left to producers with a coarser clock, whose records `writeTimestamp`
 * orders by their offset.
 *
 * @param floorMicros the highest stamp already given before this start, so that a jump back across a restart is held too
 */
export const risingMicros = (clock: Clock, floorMicros = 0): (() => number) => {
  let last = floorMicros;
  return () => {
    last = Math.max(last, clock.now() * 1000) + 1;
    if (last % 1000 === 0) last++;
    return last;
  };
};
