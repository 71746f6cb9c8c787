import { describe, expect, test } from 'bun:test';
import { createMetrics, mergeMetrics } from './metrics.ts';

const json = (metrics: ReturnType<typeof createMetrics>) => metrics.registry.getMetricsAsJSON();

/** A sample of a Prometheus text page: `name{labels} value`. */
const sample = (page: string, name: string) =>
  page.split('\n').find((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));

describe('names follow Prometheus', () => {
  test('each begins with pinflow_, and says its unit; only counters end in _total', async () => {
    for (const { name, type, help } of await json(createMetrics())) {
      expect(name).toMatch(/^pinflow_[a-z_]+_(total|seconds|bytes|pins|records|ready|info|alerts|paused)$/);
      expect(name.endsWith('_total')).toBe(String(type) === 'counter');
      expect(help).not.toBe('');
    }
  });

  test('registries of two threads do not meet', async () => {
    const [one, other] = [createMetrics(), createMetrics()];
    one.archivedPins.inc(5);
    expect(await other.registry.metrics()).toContain('pinflow_archive_pins_total 0');
  });

  test('process metrics are in the main thread only, without those that mislead on Bun', async () => {
    const names = async (withProcess: boolean) =>
      (await json(createMetrics({ withProcess }))).map((metric) => metric.name);
    expect((await names(false)).filter((name) => !name.startsWith('pinflow_'))).toEqual([]);
    const main = await names(true);
    expect(main).toContain('process_resident_memory_bytes');
    expect(main).not.toContain('process_heap_bytes');
    expect(main.filter((name) => name.startsWith('nodejs_'))).toEqual([]);
  });
});

describe('mergeMetrics', () => {
  test('counters of threads are added, by label; what one thread alone has stays', async () => {
    const [one, other] = [createMetrics({ withProcess: true }), createMetrics()];
    one.streamedPins.inc({ outcome: 'clean' }, 3);
    other.streamedPins.inc({ outcome: 'clean' }, 4);
    other.streamedPins.inc({ outcome: 'reject' }, 1);
    other.consumerLag.set({ group: 'pinflow-stream', partition: '2' }, 9);
    // As a thread posts it: plain objects, cloned.
    const page = await mergeMetrics([structuredClone(await json(one)), structuredClone(await json(other))]);
    expect(sample(page, 'pinflow_stream_pins_total{outcome="clean"}')).toEndWith(' 7');
    expect(sample(page, 'pinflow_stream_pins_total{outcome="reject"}')).toEndWith(' 1');
    expect(sample(page, 'pinflow_consumer_lag_records{group="pinflow-stream",partition="2"}')).toEndWith(' 9');
    expect(sample(page, 'process_resident_memory_bytes')).toBeDefined();
    expect(page).toContain('# TYPE pinflow_stream_pins_total counter');
  });

  test('histograms of threads are added, bucket by bucket', async () => {
    const [one, other] = [createMetrics(), createMetrics()];
    one.durableSeconds.observe(0.002);
    other.durableSeconds.observe(0.002);
    other.durableSeconds.observe(20);
    const page = await mergeMetrics([await json(one), await json(other)]);
    expect(sample(page, 'pinflow_edge_durable_seconds_bucket{le="0.001"}')).toEndWith(' 0');
    expect(sample(page, 'pinflow_edge_durable_seconds_bucket{le="0.0025"}')).toEndWith(' 2');
    expect(sample(page, 'pinflow_edge_durable_seconds_bucket{le="+Inf"}')).toEndWith(' 3');
    expect(sample(page, 'pinflow_edge_durable_seconds_count')).toEndWith(' 3');
  });

  test('no thread has posted yet: an empty page', async () => {
    expect((await mergeMetrics([])).trim()).toBe('');
  });
});

test('a counter whose labels are known is there before its first count', async () => {
  const page = await mergeMetrics([await json(createMetrics())]);
  expect(sample(page, 'pinflow_dlq_records_total{stage="stream"}')).toEndWith(' 0');
  expect(sample(page, 'pinflow_batch_runs_total{status="failed"}')).toEndWith(' 0');
});
