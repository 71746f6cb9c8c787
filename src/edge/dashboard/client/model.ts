import type { Sample, Stage } from '../../deps.ts';

/** What the charts show at most: as much as the server keeps. */
export const HISTORY_MS = 600_000;
/** Rates and latencies speak of this much time up to a point: one second alone jumps about. */
const SMOOTH_MS = 6000;

/** Values over time; null where nothing can be said. */
export type Series = { readonly times: readonly number[]; readonly values: readonly (number | null)[] };

/** Each sample with the one some seconds before it; null at the start. */
const pairs = (samples: readonly Sample[]): readonly (readonly [Sample | null, Sample])[] => {
  let before = 0;
  return samples.map((sample, i) => {
    while (before + 1 < i && sample.at - (samples[before + 1] as Sample).at >= SMOOTH_MS) before++;
    return [i === 0 ? null : (samples[before] as Sample), sample];
  });
};

const series = (samples: readonly Sample[], value: (before: Sample, now: Sample) => number | null): Series => ({
  times: samples.map(({ at }) => at / 1000),
  values: pairs(samples).map(([before, now]) => (before === null ? null : value(before, now))),
});

/** A second's worth of a count; null across a restart, when counts fall. */
const rate = (before: number, now: number, ms: number): number | null =>
  ms <= 0 || now < before ? null : ((now - before) * 1000) / ms;

export const rateSeries = (samples: readonly Sample[], count: (sample: Sample) => number): Series =>
  series(samples, (before, now) => rate(count(before), count(now), now.at - before.at));

const last = ({ values }: Series): number | null => values.at(-1) ?? null;

/** Pins a second through a stage now. */
export const rateNow = (samples: readonly Sample[], stage: Stage['name']): number | null => {
  const newest = samples.at(-1);
  const recent = newest === undefined ? [] : samples.filter(({ at }) => at >= newest.at - SMOOTH_MS);
  return last(rateSeries(recent, ({ pins }) => pins[stage] ?? 0));
};

/** Counts of what happened between two samples; null across a restart. */
const delta = (before: readonly number[], now: readonly number[]): readonly number[] | null => {
  const counts = now.map((count, i) => count - (before[i] ?? 0));
  return counts.some((count) => count < 0) ? null : counts;
};

/** A quantile of bucketed observations, as Prometheus estimates it: evenly spread within a bucket. */
export const quantile = (bounds: readonly number[], counts: readonly number[], q: number): number | null => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let rest = q * total;
  for (const [i, count] of counts.entries()) {
    const low = bounds[i - 1] ?? 0;
    const high = bounds[i];
    if (high === undefined) return low;
    if (rest <= count && count > 0) return low + ((high - low) * rest) / count;
    rest -= count;
  }
  return bounds.at(-1) ?? null;
};

type Pick = (sample: Sample) => readonly number[];

export const quantileSeries = (
  samples: readonly Sample[],
  bounds: readonly number[],
  counts: Pick,
  q: number,
): Series =>
  series(samples, (before, now) => {
    const between = delta(counts(before), counts(now));
    return between === null ? null : quantile(bounds, between, q);
  });

/** Sums what rose from sample to sample, so that a restart in between loses only what fell into it. */
const risen = (samples: readonly Sample[], counts: Pick): readonly number[] =>
  samples.reduce<readonly number[]>((sum, sample, i) => {
    const before = samples[i - 1];
    const between = before === undefined ? null : delta(counts(before), counts(sample));
    return between === null ? sum : between.map((count, k) => count + (sum[k] ?? 0));
  }, []);

export const risenBuckets = risen;

/** Fields found missing, most first. */
export const risenFields = (samples: readonly Sample[]): readonly (readonly [string, number])[] => {
  const names = [...new Set(samples.flatMap(({ fields }) => Object.keys(fields)))];
  const counts = risen(samples, ({ fields }) => names.map((name) => fields[name] ?? 0));
  return names.map((name, i) => [name, counts[i] ?? 0] as const).toSorted((a, b) => b[1] - a[1]);
};

/** How much time the samples span, in words. */
export const spanOf = (samples: readonly Sample[]): string => {
  const ms = (samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0);
  return ms < 90_000 ? `${Math.max(1, Math.round(ms / 1000))} s` : `${Math.round(ms / 60_000)} min`;
};
