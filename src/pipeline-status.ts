import { bucketsOf, readCounts, readFields } from './counts.ts';
import type { Stage, Status } from './edge/deps.ts';
import type { WorkerState } from './supervisor.ts';
import type { WorkerRole } from './workers/protocol.ts';

export type StatusSources = {
  /** `getMetricsAsJSON()` of each thread's registry. */
  readonly perThread: readonly (readonly unknown[])[];
  readonly workers: readonly WorkerState[];
  /** Which engine stands behind each stage. */
  readonly engines: Readonly<Record<Stage['name'], string>>;
};

type Lag = Pick<Stage, 'lag' | 'lagSeconds'>;
const NO_LAG: Lag = { lag: null, lagSeconds: null };

/** The pipeline as it is drawn, from what its threads last posted. */
export const pipelineStatus = ({ perThread, workers, engines }: StatusSources): Status => {
  const counts = readCounts(perThread);
  const stage = (name: Stage['name'], pins: number, role: WorkerRole | null, lag: Lag = NO_LAG): Stage => {
    const own = workers.filter((worker) => worker.role === role);
    const failing = own.find((worker) => worker.state !== 'ready');
    const elsewhere = role !== null && own.length === 0;
    return {
      name,
      engine: engines[name],
      pins,
      ...(elsewhere ? NO_LAG : lag),
      ready: failing === undefined,
      ...(failing === undefined ? {} : { reason: failing.detail ?? failing.state }),
      ...(elsewhere ? { elsewhere } : {}),
    };
  };
  return {
    stages: [
      stage('edge', counts.accepted, null),
      stage('log', counts.accepted, null),
      stage('archive', counts.archived, 'archive', { lag: counts.archiveLag, lagSeconds: counts.archiveLagSeconds }),
      stage('clean', counts.cleaned, 'clean'),
      stage('stream', counts.streamed, 'stream', { lag: counts.streamLag, lagSeconds: counts.streamLagSeconds }),
    ],
    totals: {
      rejected: counts.rejected,
      errors: counts.errors,
      deadLetters: counts.deadLetters,
      spooled: counts.spooled,
    },
    durableSeconds: bucketsOf(perThread, 'pinflow_edge_durable_seconds'),
    microBatchPins: bucketsOf(perThread, 'pinflow_stream_batch_pins'),
    errorFields: readFields(perThread),
  };
};
