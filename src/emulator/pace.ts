import type { Clock } from '../clock.ts';

/** The seed's emulator waits up to so long between two posts, milliseconds. */
const MAX_GAP_MS = 1000;
/** An emulator held up longer than this goes on at its rate and does not make up for what it missed: no burst after a stall. */
const MAX_BEHIND_MS = 1000;

/**
 * When to send the next request: answers the milliseconds to wait first.
 * With a rate, requests are due at even distances from the first, so that waits that come out long even out. Without one
 * there is a random gap before each request but the first.
 */
export const createPace = (
  rate: number | undefined,
  clock: Clock,
  random: () => number = Math.random,
): ((pins: number) => number) => {
  let first = true;
  let dueAt = Number.NEGATIVE_INFINITY;
  const gap = () => {
    const waitMs = first ? 0 : random() * MAX_GAP_MS;
    first = false;
    return waitMs;
  };
  if (rate === undefined) return gap;
  return (pins) => {
    const now = clock.now();
    if (now - dueAt > MAX_BEHIND_MS) dueAt = now;
    const waitMs = Math.max(0, dueAt - now);
    dueAt += (pins / rate) * 1000;
    return waitMs;
  };
};
