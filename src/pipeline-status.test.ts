import { describe, expect, test } from 'bun:test';
import { createMetrics } from './metrics.ts';
import { pipelineStatus } from './pipeline-status.ts';
import type { WorkerState } from './supervisor.ts';

const engines = { edge: 'hono', log: 'sqlite', archive: 'fs', clean: 'embedded', stream: 'Postgres' };
const worker = (role: WorkerState['role'], over: Partial<WorkerState> = {}): WorkerState => ({
  name: `${role}-1`,
  role,
  state: 'ready',
  detail: null,
  restarts: 0,
  ...over,
});

const posted = async () => {
  const [edge, stream] = [createMetrics(), createMetrics()];
  edge.pinsAccepted.inc({ outcome: 'accepted' }, 10);
  edge.pinsAccepted.inc({ outcome: 'rejected' }, 2);
  for (const seconds of [0.0004, 0.002, 0.002, 60]) edge.durableSeconds.observe(seconds);
  stream.streamedPins.inc({ outcome: 'clean' }, 6);
  stream.streamedPins.inc({ outcome: 'error' }, 3);
  stream.streamErrorFields.inc({ field: 'title' }, 3);
  stream.consumerLag.set({ group: 'pinflow-stream', partition: '0' }, 1);
  edge.consumerLagSeconds.set({ group: 'pinflow-stream' }, 4);
  return [await edge.registry.getMetricsAsJSON(), await stream.registry.getMetricsAsJSON()];
};

describe('the pipeline as it is drawn', () => {
  test('counts, lag and buckets of all threads', async () => {
    const workers = [worker('archive'), worker('clean'), worker('stream')];
    const status = pipelineStatus({ perThread: await posted(), workers, engines });
    expect(status.stages.map(({ name, pins, ready }) => [name, pins, ready])).toEqual([
      ['edge', 10, true],
      ['log', 10, true],
      ['archive', 0, true],
      ['clean', 0, true],
      ['stream', 9, true],
    ]);
    expect(status.stages[4]).toMatchObject({ engine: 'Postgres', lag: 1, lagSeconds: 4 });
    expect(status.totals).toEqual({ rejected: 2, errors: 3, deadLetters: 0, spooled: 0 });
    expect(status.errorFields).toEqual({ title: 3 });
    const { bounds, counts } = status.durableSeconds;
    expect(counts.length).toBe(bounds.length + 1);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(4);
    expect([counts[0], counts[bounds.indexOf(0.0025)], counts.at(-1)]).toEqual([1, 2, 1]);
  });

  test('a worker that waits says why; a part without one here is elsewhere', async () => {
    const workers = [worker('stream', { state: 'waiting', detail: 'Postgres is starting up' }), worker('stream')];
    const { stages } = pipelineStatus({ perThread: await posted(), workers, engines });
    expect(stages[4]).toMatchObject({ ready: false, reason: 'Postgres is starting up' });
    expect(stages[2]).toMatchObject({ ready: true, elsewhere: true, lag: null, lagSeconds: null });
    expect(stages[0]?.elsewhere).toBeUndefined();
  });
});
