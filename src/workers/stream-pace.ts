/**
 * How many pins a micro-batch may have, so that its transaction takes about as long as wanted on the server at hand: short
 * while the stream keeps up, so that a pin is soon visible; longer in catch-up, where the fixed cost of a transaction
 * counts. A batch never waits for more pins: what came during one transaction is the next batch.
 */
export type PaceGoals = {
  /** Of a transaction while the stream keeps up, milliseconds. */
  readonly latencyMs: number;
  /** Of a transaction in catch-up, milliseconds. */
  readonly catchUpMs: number;
  readonly maxPins: number;
};

/** Below this a slower server is not helped: the fixed cost of a transaction is all there is. */
const MIN_PINS = 100;
/** Share of the newest measurement in the estimate: one slow commit should not make ten small batches. */
const SMOOTHING = 0.2;

export const createPace = ({ latencyMs, catchUpMs, maxPins }: PaceGoals) => {
  /** Pins a millisecond; null until something was measured. */
  let rate: number | null = null;
  return {
    /** @param behind records of the partition that wait, those at hand included */
    limit: (behind: number): number => {
      if (rate === null) return maxPins;
      const within = (ms: number) => Math.min(maxPins, Math.max(MIN_PINS, Math.floor((rate ?? 0) * ms)));
      const soon = within(latencyMs);
      return behind <= soon ? soon : within(catchUpMs);
    },
    /** @param ms that a transaction of so many pins took */
    observe: (pins: number, ms: number): void => {
      // Of a few pins the fixed cost is all that shows: it says nothing of how many would fit.
      if (pins < MIN_PINS) return;
      const now = pins / Math.max(1, ms);
      rate = rate === null ? now : rate + SMOOTHING * (now - rate);
    },
  };
};

export type Pace = ReturnType<typeof createPace>;
