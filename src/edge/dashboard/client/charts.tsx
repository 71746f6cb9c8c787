/** @jsxImportSource preact */
import { useMemo } from 'preact/hooks';
import { count, duration, perSecond } from './format.ts';
import { quantileSeries, rateSeries, risenBuckets, risenFields, spanOf } from './model.ts';
import { Bars, Section } from './parts.tsx';
import { useStore } from './store.ts';
import { type Line, TimeChart } from './time-chart.tsx';

const perSecondText = (n: number | null): string => (n === null ? '–' : `${perSecond(n)}/s`);

const PinsIn = () => {
  const samples = useStore((state) => state.samples);
  const lines = useMemo<readonly Line[]>(
    () => [
      { name: 'accepted', series: rateSeries(samples, ({ pins }) => pins.edge ?? 0), color: '--line-1' },
      { name: 'refused', series: rateSeries(samples, ({ rejected }) => rejected), color: '--line-3' },
    ],
    [samples],
  );
  return <TimeChart title="Pins in" lines={lines} format={perSecondText} filled />;
};

const DurableLatency = () => {
  const samples = useStore((state) => state.samples);
  const bounds = useStore((state) => state.status?.durableSeconds.bounds ?? []);
  const lines = useMemo<readonly Line[]>(() => {
    const at = (q: number) => quantileSeries(samples, bounds, ({ durable }) => durable, q);
    return [
      { name: 'p50', series: at(0.5), color: '--line-1' },
      { name: 'p99', series: at(0.99), color: '--line-2' },
    ];
  }, [samples, bounds]);
  return <TimeChart title="Time until durable" lines={lines} format={duration} />;
};

const ErrorsByField = () => {
  const samples = useStore((state) => state.samples);
  const bars = risenFields(samples)
    .filter(([, n]) => n > 0)
    .map(([name, value]) => ({ name, value, text: count(value) }));
  const title = `Errors by field, last ${spanOf(samples)}`;
  return (
    <div class="card chart">
      <h3>{title}</h3>
      {bars.length === 0 ? <p class="note">no field was missing</p> : <Bars label={title} bars={bars} />}
    </div>
  );
};

const BatchSizes = () => {
  const samples = useStore((state) => state.samples);
  const bounds = useStore((state) => state.status?.microBatchPins.bounds ?? []);
  const counts = risenBuckets(samples, ({ batches }) => batches);
  const used = counts.map((value, i) => ({ value, i })).filter(({ value }) => value > 0);
  const [first, final] = [used[0]?.i ?? 0, used.at(-1)?.i ?? -1];
  const nameOf = (i: number): string => {
    const [low, high] = [(bounds[i - 1] ?? 0) + 1, bounds[i]];
    if (high === undefined) return `over ${count(bounds.at(-1))}`;
    return low === high ? count(high) : `${count(low)} to ${count(high)}`;
  };
  const bars = counts.map((value, i) => ({ name: nameOf(i), value, text: count(value) })).slice(first, final + 1);
  const title = `Micro-batches by pins in them, last ${spanOf(samples)}`;
  return (
    <div class="card chart">
      <h3>{title}</h3>
      {bars.length === 0 ? <p class="note">no micro-batch was committed</p> : <Bars label={title} bars={bars} />}
    </div>
  );
};

export const Charts = () => (
  <Section id="charts" title="Charts">
    <div class="chart-grid">
      <PinsIn />
      <DurableLatency />
      <ErrorsByField />
      <BatchSizes />
    </div>
  </Section>
);
