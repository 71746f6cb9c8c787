import { expect, test } from 'bun:test';
import { createMetrics } from '../metrics.ts';
import { observations, tallies } from './tally.ts';

const valuesOf = async (metric: { readonly get: () => Promise<{ readonly values: readonly unknown[] }> }) =>
  (await metric.get()).values as readonly {
    readonly labels: object;
    readonly value: number;
    readonly metricName?: string;
  }[];

test('what is counted is there when the counter is asked, with what others count, and once', async () => {
  const { pinsAccepted } = createMetrics();
  const [first, second] = [tallies(pinsAccepted), tallies(pinsAccepted)];
  const accepted = first({ outcome: 'accepted' });
  accepted();
  accepted(4);
  second({ outcome: 'accepted' })(10);
  pinsAccepted.inc({ outcome: 'rejected' });
  for (const _ of [1, 2]) {
    expect(await valuesOf(pinsAccepted)).toEqual([
      { labels: { outcome: 'accepted' }, value: 15 },
      { labels: { outcome: 'rejected' }, value: 1 },
      { labels: { outcome: 'failed' }, value: 0 },
    ]);
  }
  accepted();
  expect(await valuesOf(pinsAccepted)).toContainEqual({ labels: { outcome: 'accepted' }, value: 16 });
});

test('a label set that nothing was counted for does not come up', async () => {
  const { requests } = createMetrics();
  tallies(requests)({ route: '/pin', status: '200' });
  expect(await valuesOf(requests)).toEqual([]);
});

test('observations are all there, more than are kept too', async () => {
  const { durableSeconds } = createMetrics();
  const observe = observations(durableSeconds);
  const many = 2500;
  for (let i = 0; i < many; i++) observe(0.002);
  const values = await valuesOf(durableSeconds);
  const of = (name: string) =>
    values.find(({ metricName }) => metricName === `pinflow_edge_durable_seconds_${name}`)?.value;
  expect(of('count')).toBe(many);
  expect(of('sum')).toBeCloseTo(many * 0.002);
});
