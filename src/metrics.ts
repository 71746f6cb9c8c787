import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * One registry a thread, made by its entry and passed on as a dep. Metric names follow Prometheus: base units, `_total` for
 * counters. Label values come from fixed sets only. The main thread merges what the workers post.
 */
export type Metrics = ReturnType<typeof createMetrics>;

/** Seconds. From a group commit on a fast disk to a broker that is nearly too slow. */
const LATENCY_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Seconds. From a busy stream to one that catches up after a night. */
const VISIBLE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600, 36_000];
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
  spoolLimitBytes: new Gauge({
    name: 'pinflow_spool_limit_bytes',
    help: 'Bytes of pins the spool may hold; beyond it the edge refuses. 0 without a spool',
    registers,
  }),
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
  archivePutSeconds: new Histogram({
    name: 'pinflow_archive_put_seconds',
    help: 'From handing an object to the archive to its manifest entry, without the waits between tries',
    buckets: LATENCY_SECONDS,
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
  streamVisibleSeconds: new Histogram({
    name: 'pinflow_stream_visible_seconds',
    help: 'From received_at of a pin to its row being committed to the speed view, of up to 20 pins of each micro-batch',
    buckets: VISIBLE_SECONDS,
    registers,
  }),
  streamLatePins: new Gauge({
    name: 'pinflow_stream_late_pins',
    help: 'Pins of a partition that came after a window they count in had closed; counted all the same. Kept in Postgres',
    labelNames: ['partition'] as const,
    registers,
  }),
  streamRemovedRows: new Counter({
    name: 'pinflow_stream_removed_rows_total',
    help: 'Rows removed by policy from a table of the speed view',
    labelNames: ['table'] as const,
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
  batchAlerts: new Gauge({
    name: 'pinflow_batch_alerts',
    help: 'Open alerts of the batch layer: run_missed, run_long, archive_late; the details stand in the table batch_alerts',
    labelNames: ['kind'] as const,
    registers,
  }),
  batchPaused: new Gauge({ name: 'pinflow_batch_paused', help: '1 while the schedule is paused, else 0', registers }),
  batchLastDone: new Gauge({
    name: 'pinflow_batch_last_done_timestamp_seconds',
    help: 'When the last batch run of this process ended well, seconds since the Unix epoch',
    registers,
  }),
  cleanRules: new Counter({
    name: 'pinflow_clean_rules_total',
    help: 'How often a cleaning rule changed a pin on its way into a batch view',
    labelNames: ['rule'] as const,
    registers,
  }),
  cleanPlaceholders: new Counter({
    name: 'pinflow_clean_placeholders_total',
    help: 'How often a placeholder became null on its way into a batch view, by field',
    labelNames: ['field'] as const,
    registers,
  }),
  batchRunSeconds: new Histogram({
    name: 'pinflow_batch_run_seconds',
    help: 'Duration of batch runs',
    buckets: [0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600],
    registers,
  }),
  cleanObjectSeconds: new Histogram({
    name: 'pinflow_clean_object_seconds',
    help: 'From reading an archive object to its pins being in a batch view and marked so',
    labelNames: ['store'] as const,
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers,
  }),
  cleanOldestPending: new Gauge({
    name: 'pinflow_clean_oldest_pending_seconds',
    help: 'Age of the oldest archive object the ledger knows that a batch view does not have; 0 when it has all',
    labelNames: ['store'] as const,
    registers,
  }),
});

const reconcileMetrics = (registers: Registry[]) => ({
  reconcileRuns: new Counter({
    name: 'pinflow_reconcile_runs_total',
    help: 'Scheduled reconciles ended, by outcome: equal, different or failed',
    labelNames: ['outcome'] as const,
    registers,
  }),
  reconcileLastRun: new Gauge({
    name: 'pinflow_reconcile_last_run_timestamp_seconds',
    help: 'When the last scheduled reconcile could compare all places, seconds since the Unix epoch',
    registers,
  }),
  reconcileDifferences: new Gauge({
    name: 'pinflow_reconcile_different_pins',
    help: 'Differences the last scheduled reconcile found, by place; of the archive: breaks of its chain and records not in it',
    labelNames: ['place'] as const,
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
  consumerLagSeconds: new Gauge({
    name: 'pinflow_consumer_lag_seconds',
    help: 'Age of the oldest record of the log a group has not committed, whether its workers live or not; 0 when there is none',
    labelNames: ['group'] as const,
    registers,
  }),
  deadLetters: new Counter({
    name: 'pinflow_dlq_records_total',
    help: 'Records sent to the dead letter queue, by stage',
    labelNames: ['stage'] as const,
    registers,
  }),
  openDeadLetters: new Gauge({
    name: 'pinflow_dlq_open_records',
    help: 'Records in the dead letter queue that nobody has retried or dropped',
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

const threadMetrics = (registers: Registry[]) => ({
  threadCpu: new Counter({
    name: 'pinflow_thread_cpu_seconds_total',
    help: 'CPU time of a thread, user and system',
    labelNames: ['thread'] as const,
    registers,
  }),
  threadHeap: new Gauge({
    name: 'pinflow_thread_heap_bytes',
    help: 'JavaScript heap of a thread after its last garbage collection',
    labelNames: ['thread'] as const,
    registers,
  }),
  threadDelay: new Histogram({
    name: 'pinflow_thread_eventloop_delay_seconds',
    help: 'How much later than asked a timer fired: what else waits in the thread waits as long',
    labelNames: ['thread'] as const,
    buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  }),
});

const processMetrics = (registers: Registry[]) => ({
  buildInfo: new Gauge({
    name: 'pinflow_build_info',
    help: 'Always 1; the labels say what runs',
    labelNames: ['version', 'bun'] as const,
    registers,
  }),
  workerReady: new Gauge({
    name: 'pinflow_worker_ready',
    help: '1 when a worker thread reaches its engines and works, else 0',
    labelNames: ['worker'] as const,
    registers,
  }),
});

/**
 * Counters whose labels are known begin at 0: one that first appears with its first count hides that count from `increase`, which is
 * the one an alert is for.
 */
const startAtZero = (metrics: ReturnType<typeof pipelineMetrics>) => {
  for (const outcome of ['accepted', 'rejected', 'failed']) metrics.pinsAccepted.inc({ outcome }, 0);
  for (const outcome of ['spooled', 'forwarded', 'refused']) metrics.spoolPins.inc({ outcome }, 0);
  for (const outcome of ['created', 'adopted']) metrics.archiveObjects.inc({ outcome }, 0);
  for (const outcome of ['clean', 'error', 'reject']) metrics.streamedPins.inc({ outcome }, 0);
  for (const kind of ['object', 'line', 'row']) metrics.cleanRejects.inc({ kind }, 0);
  for (const status of ['done', 'failed', 'abandoned', 'skipped']) metrics.batchRuns.inc({ status }, 0);
  for (const outcome of ['equal', 'different', 'failed']) metrics.reconcileRuns.inc({ outcome }, 0);
  for (const stage of ['stream', 'clean']) metrics.deadLetters.inc({ stage }, 0);
  for (const role of ['postgres', 'archive', 'clean', 'stream']) metrics.workerRestarts.inc({ role }, 0);
};

const pipelineMetrics = (registers: Registry[]) => ({
  ...edgeMetrics(registers),
  ...spoolMetrics(registers),
  ...archiveMetrics(registers),
  ...streamMetrics(registers),
  ...batchMetrics(registers),
  ...reconcileMetrics(registers),
  ...sharedMetrics(registers),
});

/** @param withProcess process metrics too; the main thread only, as threads share one process */
export const createMetrics = ({ withProcess = false }: { readonly withProcess?: boolean } = {}) => {
  const registry = new Registry();
  const registers = [registry];
  if (withProcess) collectDefaultMetrics({ register: registry });
  // On Bun they are slow (the heap spaces take milliseconds of the edge's thread), empty or wrong: pinflow_thread_* stand for them.
  for (const { name } of registry.getMetricsAsArray()) {
    if (name === 'process_heap_bytes' || name.startsWith('nodejs_')) registry.removeSingleMetric(name);
  }
  const pipeline = pipelineMetrics(registers);
  startAtZero(pipeline);
  return { registry, ...pipeline, ...threadMetrics(registers), ...processMetrics(registers) };
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
