/**
 * Counts that a small request would spend a tenth of its time on: they are added up in plain numbers and told to the metric when it
 * is asked for its values.
 */

type Labels = Readonly<Record<string, string>>;
type Counter = { inc(labels: Labels, by: number): void };
type Gauge = { readonly set: (value: number) => void };
type Histogram = { readonly observe: (value: number) => void };

/** Adds to one label set of a counter. */
export type Tally = (by?: number) => void;

/** prom-client (15.1) calls `collect` of a metric before it reads its values; its types know it as an option only. */
const whenAsked = (metric: object, flush: () => void): void => {
  const asked = metric as { collect?: () => unknown };
  const before = asked.collect;
  asked.collect = () => {
    flush();
    return before?.();
  };
};

/** Gives a gauge its value when it is asked for it. */
export const shown = (gauge: Gauge, read: () => number): void => whenAsked(gauge, () => gauge.set(read()));

/** @returns makes the tally of a label set: to be called once for each */
export const tallies = (counter: Counter): ((labels: Labels) => Tally) => {
  const flushes: (() => void)[] = [];
  whenAsked(counter, () => {
    for (const flush of flushes) flush();
  });
  return (labels) => {
    let count = 0;
    flushes.push(() => {
      if (count > 0) counter.inc(labels, count);
      count = 0;
    });
    return (by = 1) => {
      count += by;
    };
  };
};

/** Observations kept until they are told. */
const MAX_OBSERVATIONS = 1024;

/** @returns observes a value, in a while */
export const observations = (histogram: Histogram): ((value: number) => void) => {
  const values = new Float64Array(MAX_OBSERVATIONS);
  let count = 0;
  const flush = () => {
    for (let i = 0; i < count; i++) histogram.observe(values[i] as number);
    count = 0;
  };
  whenAsked(histogram, flush);
  return (value) => {
    if (count === MAX_OBSERVATIONS) flush();
    values[count++] = value;
  };
};
