import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * One registry a thread, made by its entry and passed on as a dep. Metric names follow Prometheus: base units, `_total` for
 * counters. Label values come from fixed sets only. The main thread merges what the workers post.
 */
export type Metrics = ReturnType<typeof createMetrics>;

/** Seconds. From a group commit on a fast disk to a broker that is nearly too slow. */
const LATENCY_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCH_PINS = [1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000];

const edgeMetrics = (registers: Registry[]) => ({
  pinsAccepted: new Counter({
    name: 'pinflow_edge_pins_total',
    help: 'Pins answered, by outcome',
    labelNames: ['outcome'] as const,
    registers,
  }),
  requests: new Counter({
    name: 'pinflow_edge_requests_total',
    help: 'HTTP requests answered, by route and status',
    labelNames: ['route', 'status'] as const,
    registers,
  }),
  durableSeconds: new Histogram({
    name: 'pinflow_edge_durable_seconds',
    help: 'From handing pins to the log to their being durable',
    buckets: LATENCY_SECONDS,
    registers,
  }),
  pendingBytes: new Gauge({
    name: 'pinflow_edge_pending_bytes',
    help: 'Bytes of pins waiting to become durable',
    registers,
  }),
});

const spoolMetrics = (registers: Registry[]) => ({
  spoolBytes: new Gauge({ name: 'pinflow_spool_bytes', help: 'Bytes of pins in the spool', registers }),
  spoolRecords: new Gauge({
    name: 'pinflow_spool_records',
    help: 'Pins in the spool, durable here and waiting for the broker',
    registers,
  }),
  spoolPins: new Counter({
    name: 'pinflow_spool_pins_total',
    help: 'Pins that went through the spool, by outcome: spooled, forwarded, or refused by the broker and kept',
    labelNames: ['outcome'] as const,
    registers,
  }),
});

const archiveMetrics = (registers: Registry[]) => ({
  archivedPins: new Counter({ name: 'pinflow_archive_pins_total', help: 'Pins put into the archive', registers }),
  archivedBytes: new Counter({
    name: 'pinflow_archive_bytes_total',
    help: 'Compressed bytes put into the archive',
    registers,
  }),
  archiveObjects: new Counter({
    name: 'pinflow_archive_objects_total',
    help: 'Archive objects, by outcome: created, or adopted from another writer',
    labelNames: ['outcome'] as const,
    registers,
  }),
});

const streamMetrics = (registers: Registry[]) => ({
  streamedPins: new Counter({
    name: 'pinflow_stream_pins_total',
    help: 'Records of the log committed to the speed view, by outcome: clean, error or reject',
    labelNames: ['outcome'] as const,
    registers,
  }),
  streamBatchPins: new Histogram({
    name: 'pinflow_stream_batch_pins',
    help: 'Records in a micro-batch',
    buckets: BATCH_PINS,
    registers,
  }),
  streamBatchSeconds: new Histogram({
    name: 'pinflow_stream_batch_seconds',
    help: 'Duration of a micro-batch transaction',
    buckets: LATENCY_SECONDS,
    registers,
  }),
  streamErrorFields: new Counter({
    name: 'pinflow_stream_error_fields_total',
    help: 'Fields found missing after cleaning',
    labelNames: ['field'] as const,
    registers,
  }),
});

const batchMetrics = (registers: Registry[]) => ({
  cleanedPins: new Counter({
    name: 'pinflow_clean_pins_total',
    help: 'Pins upserted into a batch view',
    labelNames: ['store'] as const,
    registers,
  }),
  cleanRejects: new Counter({
    name: 'pinflow_clean_rejects_total',
    help: 'Lines and objects of the archive that could not be cleaned',
    labelNames: ['kind'] as const,
    registers,
  }),
  batchRuns: new Counter({
    name: 'pinflow_batch_runs_total',
    help: 'Batch runs ended, by status',
    labelNames: ['status'] as const,
    registers,
  }),
  batchRunSeconds: new Histogram({
    name: 'pinflow_batch_run_seconds',
    help: 'Duration of batch runs',
    buckets: [0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600],
    registers,
  }),
});

const sharedMetrics = (registers: Registry[]) => ({
  consumerLag: new Gauge({
    name: 'pinflow_consumer_lag_records',
    help: 'Records of the log a group has not yet handled',
    labelNames: ['group', 'partition'] as const,
    registers,
  }),
  deadLetters: new Counter({
    name: 'pinflow_dlq_records_total',
    help: 'Records sent to the dead letter queue, by stage',
    labelNames: ['stage'] as const,
    registers,
  }),
  retries: new Counter({
    name: 'pinflow_retries_total',
    help: 'Calls to an engine that failed and were tried again',
    labelNames: ['engine'] as const,
    registers,
  }),
  workerRestarts: new Counter({
    name: 'pinflow_worker_restarts_total',
    help: 'Workers replaced by the supervisor',
    labelNames: ['role'] as const,
    registers,
  }),
});

/** @param withProcess process metrics too; the main thread only, as threads share one process */
export const createMetrics = ({ withProcess = false }: { readonly withProcess?: boolean } = {}) => {
  const registry = new Registry();
  const registers = [registry];
  if (withProcess) collectDefaultMetrics({ register: registry });
  // Bun reports no garbage collections and a heap of its own kind: these two would mislead.
  for (const name of ['process_heap_bytes', 'nodejs_gc_duration_seconds']) registry.removeSingleMetric(name);
  return {
    registry,
    ...edgeMetrics(registers),
    ...spoolMetrics(registers),
    ...archiveMetrics(registers),
    ...streamMetrics(registers),
    ...batchMetrics(registers),
    ...sharedMetrics(registers),
  };
};

/** Merges what threads posted (`getMetricsAsJSON` of each) into one Prometheus text page. */
export const mergeMetrics = (perThread: readonly (readonly unknown[])[]): Promise<string> =>
  AggregatorRegistry.aggregate(perThread as unknown[][] as never).metrics();

type PostedMetric = {
  readonly name: string;
  readonly type: string;
  readonly values: readonly { value: number; labels: object; metricName?: string }[];
};

/**
 * The counters and histograms of a thread that is gone, added to those of the threads before it: a sum over threads must not
 * fall when one is replaced. Gauges are left out, as they spoke of the thread itself.
 */
export const retireMetrics = (before: readonly unknown[], posted: readonly unknown[]): readonly unknown[] => {
  const sums = new Map((before as readonly PostedMetric[]).map((metric) => [metric.name, metric]));
  for (const metric of posted as readonly PostedMetric[]) {
    if (metric.type === 'gauge') continue;
    const values = new Map<string, PostedMetric['values'][number]>();
    for (const sample of [...(sums.get(metric.name)?.values ?? []), ...metric.values]) {
      const key = `${sample.metricName ?? ''}${JSON.stringify(sample.labels)}`;
      values.set(key, { ...sample, value: (values.get(key)?.value ?? 0) + sample.value });
    }
    sums.set(metric.name, { ...metric, values: [...values.values()] });
  }
  return [...sums.values()];
};
