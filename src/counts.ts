/** Numbers for people, read from the metrics the threads post: one source for the status line, the dashboard and Prometheus. */
export type Counts = {
  readonly accepted: number;
  readonly rejected: number;
  readonly archived: number;
  readonly cleaned: number;
  readonly streamed: number;
  readonly errors: number;
  readonly deadLetters: number;
  /** Pins in the spool now. */
  readonly spooled: number;
  /** Records of the log the archive and the speed view have not handled yet, summed over partitions. */
  readonly archiveLag: number;
  readonly streamLag: number;
  /** Age of the oldest of them, seconds; null before the first look. */
  readonly archiveLagSeconds: number | null;
  readonly streamLagSeconds: number | null;
};

type Sample = {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
};
type Metric = { readonly name: string; readonly values: readonly Sample[] };

const samples = (perThread: readonly (readonly unknown[])[], name: string): readonly Sample[] =>
  perThread.flatMap((metrics) =>
    (metrics as readonly Metric[]).filter((m) => m.name === name).flatMap((m) => m.values),
  );

const total = (all: readonly Sample[], match: (labels: Sample['labels']) => boolean = () => true): number =>
  all.reduce((sum, s) => (match(s.labels) ? sum + s.value : sum), 0);

const largest = (all: readonly Sample[], label: string): number => {
  const sums = new Map<string, number>();
  for (const s of all) sums.set(String(s.labels[label]), (sums.get(String(s.labels[label])) ?? 0) + s.value);
  return Math.max(0, ...sums.values());
};

/** @param perThread `getMetricsAsJSON()` of each thread's registry */
export const readCounts = (perThread: readonly (readonly unknown[])[]): Counts => {
  const pins = samples(perThread, 'pinflow_edge_pins_total');
  const lag = samples(perThread, 'pinflow_consumer_lag_records');
  const streamed = samples(perThread, 'pinflow_stream_pins_total');
  const ages = samples(perThread, 'pinflow_consumer_lag_seconds');
  const ageOf = (group: string): number | null => ages.find(({ labels }) => labels.group === group)?.value ?? null;
  return {
    accepted: total(pins, (l) => l.outcome === 'accepted'),
    rejected: total(pins, (l) => l.outcome === 'rejected'),
    archived: total(samples(perThread, 'pinflow_archive_pins_total')),
    cleaned: largest(samples(perThread, 'pinflow_clean_pins_total'), 'store'),
    streamed: total(streamed),
    errors: total(streamed, (l) => l.outcome === 'error'),
    deadLetters: total(samples(perThread, 'pinflow_dlq_records_total')),
    spooled: total(samples(perThread, 'pinflow_spool_records')),
    archiveLag: total(lag, (l) => l.group === 'pinflow-archive'),
    streamLag: total(lag, (l) => l.group === 'pinflow-stream'),
    archiveLagSeconds: ageOf('pinflow-archive'),
    streamLagSeconds: ageOf('pinflow-stream'),
  };
};

/** A histogram's observations by bucket, over all threads: each bucket for itself, the last for what is above all bounds. */
export const bucketsOf = (
  perThread: readonly (readonly unknown[])[],
  name: string,
): { readonly bounds: readonly number[]; readonly counts: readonly number[] } => {
  const upTo = new Map<number, number>();
  for (const { metricName, labels, value } of samples(perThread, name)) {
    if (metricName !== `${name}_bucket`) continue;
    const bound = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le);
    upTo.set(bound, (upTo.get(bound) ?? 0) + value);
  }
  const sorted = [...upTo].sort(([a], [b]) => a - b);
  return {
    bounds: sorted.map(([bound]) => bound).filter(Number.isFinite),
    counts: sorted.map(([, count], i) => count - (sorted[i - 1]?.[1] ?? 0)),
  };
};

/** Fields found missing after cleaning, by field. */
export const readFields = (perThread: readonly (readonly unknown[])[]): Readonly<Record<string, number>> => {
  const fields: Record<string, number> = {};
  for (const { labels, value } of samples(perThread, 'pinflow_stream_error_fields_total'))
    fields[String(labels.field)] = (fields[String(labels.field)] ?? 0) + value;
  return fields;
};

export const countsLine = (c: Counts): string =>
  `pins in ${c.accepted} · archived ${c.archived} · cleaned ${c.cleaned} · streamed ${c.streamed} · errors ${c.errors} · lag ${Math.max(c.archiveLag, c.streamLag)}` +
  (c.rejected > 0 ? ` · refused ${c.rejected}` : '') +
  (c.deadLetters > 0 ? ` · dead letters ${c.deadLetters}` : '');
