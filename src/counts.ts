/** Numbers for people, read from the metrics the threads post: one source for the status line, the dashboard and Prometheus. */
export type Counts = {
  readonly accepted: number;
  readonly rejected: number;
  readonly archived: number;
  readonly cleaned: number;
  readonly streamed: number;
  readonly errors: number;
  readonly deadLetters: number;
  /** Records of the log the archive and the speed view have not handled yet, summed over partitions. */
  readonly archiveLag: number;
  readonly streamLag: number;
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
  return {
    accepted: total(pins, (l) => l.outcome === 'accepted'),
    rejected: total(pins, (l) => l.outcome === 'rejected'),
    archived: total(samples(perThread, 'pinflow_archive_pins_total')),
    cleaned: largest(samples(perThread, 'pinflow_clean_pins_total'), 'store'),
    streamed: total(streamed),
    errors: total(streamed, (l) => l.outcome === 'error'),
    deadLetters: total(samples(perThread, 'pinflow_dlq_records_total')),
    archiveLag: total(lag, (l) => l.group === 'pinflow-archive'),
    streamLag: total(lag, (l) => l.group === 'pinflow-stream'),
  };
};

export const countsLine = (c: Counts): string =>
  `pins in ${c.accepted} · archived ${c.archived} · cleaned ${c.cleaned} · streamed ${c.streamed} · errors ${c.errors} · lag ${Math.max(c.archiveLag, c.streamLag)}` +
  (c.rejected > 0 ? ` · refused ${c.rejected}` : '') +
  (c.deadLetters > 0 ? ` · dead letters ${c.deadLetters}` : '');
