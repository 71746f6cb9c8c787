import { expect, test } from 'bun:test';
import { createMetrics } from './metrics.ts';
import { watchThread } from './thread-metrics.ts';

const spin = (ms: number) => {
  for (const until = performance.now() + ms; performance.now() < until; );
};

test('a thread tells its CPU time, its heap, and how long it kept others waiting', async () => {
  const metrics = createMetrics();
  const stop = watchThread(metrics, 'main');
  const samples = async (name: string) => (await metrics.registry.getSingleMetric(name)?.get())?.values ?? [];
  Bun.gc(true);
  spin(1200);
  while ((await samples('pinflow_thread_heap_bytes')).length === 0) await Bun.sleep(10);
  stop();
  const [heap] = await samples('pinflow_thread_heap_bytes');
  expect(heap?.labels).toEqual({ thread: 'main' });
  expect(heap?.value).toBeGreaterThan(100_000);
  const [cpu] = await samples('pinflow_thread_cpu_seconds_total');
  expect(cpu?.value).toBeGreaterThan(0.2);
  const delays = await samples('pinflow_thread_eventloop_delay_seconds');
  const upTo = (le: number | '+Inf') => delays.find(({ labels }) => (labels as { le?: unknown }).le === le)?.value ?? 0;
  expect(upTo('+Inf') - upTo(0.5)).toBeGreaterThan(0);
});
