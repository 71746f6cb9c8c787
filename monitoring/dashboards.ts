import { bars, dashboard, lines, number, quantiles, rows } from './panels.ts';

/**
 * The dashboards of monitoring/grafana/dashboards, one JSON file each: `bun run docs` writes them, and a test finds them stale.
 * test/monitoring/queries.test.ts runs every query of theirs against a real Prometheus and the program's Postgres.
 */
const RATE = '[$__rate_interval]';
/** Runs in the tables: some screens. */
const RUNS_SHOWN = 50;

const overview = dashboard('overview', 'overview', [
  number('Pins in', 'cps', `sum(rate(pinflow_edge_pins_total{outcome="accepted"}${RATE}))`),
  number('Refused', 'percentunit', 'max(job:pinflow_edge_requests_refused:ratio_rate5m)', [0.001, 0.01]),
  number('Durable, p99', 's', 'max(job:pinflow_edge_durable_seconds:p99_rate5m)', [0.25, 1]),
  number('Behind the log', 's', 'max(job_group:pinflow_consumer_lag_seconds:max)', [30, 120]),
  number('Dead letters', 'short', 'max(pinflow_dlq_open_records)', [1]),
  number('Alerts', 'short', 'count(ALERTS{alertstate="firing",alertname=~"Pinflow.+"}) or vector(0)', [1]),
  lines('Pins in, by outcome', 'cps', ['sum by (outcome) (job_outcome:pinflow_edge_pins:rate1m)', '{{outcome}}']),
  lines(
    'Archived, cleaned, streamed',
    'cps',
    [`sum(rate(pinflow_archive_pins_total${RATE}))`, 'archived'],
    [`sum by (store) (rate(pinflow_clean_pins_total${RATE}))`, 'cleaned, {{store}}'],
    [`sum(rate(pinflow_stream_pins_total${RATE}))`, 'streamed'],
  ),
  lines('Received to visible', 's', ...quantiles('pinflow_stream_visible_seconds')),
  lines('Behind the log', 's', ['max by (group) (job_group:pinflow_consumer_lag_seconds:max)', '{{group}}']),
  lines(
    'Waiting elsewhere',
    'short',
    ['sum(pinflow_spool_records)', 'pins in the spool'],
    ['max(pinflow_dlq_open_records)', 'dead letters'],
  ),
  lines('Workers ready', 'short', ['min by (instance, worker) (pinflow_worker_ready)', '{{instance}} {{worker}}']),
  lines('What runs', 'short', ['count by (version, bun) (pinflow_build_info)', 'pinflow {{version}}, bun {{bun}}']),
  lines(
    'Retries and replaced workers',
    'cps',
    [`sum(rate(pinflow_retries_total${RATE})) or vector(0)`, 'retries'],
    [`sum by (role) (rate(pinflow_worker_restarts_total${RATE}))`, 'replaced, {{role}}'],
  ),
]);

const edge = dashboard('edge', 'edge', [
  lines('Pins, by outcome', 'cps', [`sum by (outcome) (rate(pinflow_edge_pins_total${RATE}))`, '{{outcome}}']),
  lines('Answers by status', 'cps', [`sum by (status) (rate(pinflow_edge_requests_total${RATE}))`, '{{status}}']),
  lines('Answers by route', 'cps', [`sum by (route) (rate(pinflow_edge_requests_total${RATE}))`, '{{route}}']),
  lines('From handed over to durable', 's', ...quantiles('pinflow_edge_durable_seconds')),
  lines('Bytes waiting to become durable', 'bytes', ['sum by (instance) (pinflow_edge_pending_bytes)', '{{instance}}']),
  lines(
    'Spool',
    'bytes',
    ['sum by (instance) (pinflow_spool_bytes)', 'holds, {{instance}}'],
    ['sum by (instance) (pinflow_spool_limit_bytes)', 'may hold, {{instance}}'],
  ),
  lines('Through the spool', 'cps', [`sum by (outcome) (rate(pinflow_spool_pins_total${RATE}))`, '{{outcome}}']),
  lines('Memory', 'bytes', ['process_resident_memory_bytes{job="pinflow"}', '{{instance}}']),
  lines('CPU by thread', 'percentunit', [
    `sum by (instance, thread) (rate(pinflow_thread_cpu_seconds_total${RATE}))`,
    '{{instance}} {{thread}}',
  ]),
  lines('Event loop delay, p99', 's', [
    `histogram_quantile(0.99, sum by (le, instance, thread) (rate(pinflow_thread_eventloop_delay_seconds_bucket${RATE})))`,
    '{{instance}} {{thread}}',
  ]),
  lines('Heap by thread', 'bytes', [
    'sum by (instance, thread) (pinflow_thread_heap_bytes)',
    '{{instance}} {{thread}}',
  ]),
  lines('Open files', 'short', ['process_open_fds{job="pinflow"}', '{{instance}}']),
]);

const batch = dashboard('batch', 'batch layer', [
  lines('Archived', 'cps', [`sum(rate(pinflow_archive_pins_total${RATE}))`, 'pins']),
  lines('Archived, compressed', 'Bps', [`sum(rate(pinflow_archive_bytes_total${RATE}))`, 'bytes']),
  lines('Objects', 'cps', [`sum by (outcome) (rate(pinflow_archive_objects_total${RATE}))`, '{{outcome}}']),
  lines('Putting an object', 's', ...quantiles('pinflow_archive_put_seconds')),
  lines('Cleaned', 'cps', [`sum by (store) (rate(pinflow_clean_pins_total${RATE}))`, '{{store}}']),
  lines('Cleaning an object', 's', ...quantiles('pinflow_clean_object_seconds', ['store'])),
  lines('Oldest object a store lacks', 's', ['max by (store) (pinflow_clean_oldest_pending_seconds)', '{{store}}']),
  lines('Runs by status, in 15 minutes', 'short', [
    'sum by (status) (increase(pinflow_batch_runs_total[15m]))',
    '{{status}}',
  ]),
  lines('Differences, last reconcile', 'short', ['max by (place) (pinflow_reconcile_different_pins)', '{{place}}']),
  lines('Late', 'short', ['max by (kind) (pinflow_batch_alerts)', '{{kind}}']),
  lines('Duration of runs', 's', ...quantiles('pinflow_batch_run_seconds')),
  lines('Set aside, in 15 minutes', 'short', [
    'sum by (kind) (increase(pinflow_clean_rejects_total[15m]))',
    '{{kind}}',
  ]),
  rows(
    'Runs',
    `SELECT id, reason, status, started_at, ended_at - started_at AS took, objects, pins, errors, rejects, error
     FROM batch_runs ORDER BY id DESC LIMIT ${RUNS_SHOWN}`,
  ),
  bars(
    'What cleaning met in these runs, pins',
    `WITH r AS (SELECT quality AS q FROM batch_runs WHERE quality IS NOT NULL ORDER BY id DESC LIMIT ${RUNS_SHOWN})
     SELECT what, sum(pins) AS pins FROM (
       SELECT 'placeholder, ' || f.key || ': ' || v.key AS what, v.value::int8 AS pins
       FROM r, jsonb_each(q -> 'placeholders') f, jsonb_each_text(f.value) v
       UNION ALL SELECT 'rule ' || v.key, v.value::int8 FROM r, jsonb_each_text(q -> 'rules') v
       UNION ALL SELECT 'set aside, ' || v.key, v.value::int8 FROM r, jsonb_each_text(q -> 'rejects') v
     ) met GROUP BY what ORDER BY pins DESC`,
  ),
  bars(
    'Erroneous pins by run, %',
    `SELECT id::text AS run, round(100.0 * errors / nullif(pins, 0), 2) AS erroneous FROM (
       SELECT id, pins, errors FROM batch_runs WHERE pins > 0 ORDER BY id DESC LIMIT ${RUNS_SHOWN}
     ) newest ORDER BY id`,
  ),
  // Of the newest runs: all that a store has is the whole ledger, which grows for years. A backfill or a rebuild may be as long as that.
  rows(
    'Objects of these runs, by store (without backfills and rebuilds)',
    `SELECT s.store, s.status, count(*) AS objects, sum(s.pins) AS pins, max(s.ended_at) AS newest
     FROM (SELECT id, reason FROM batch_runs ORDER BY id DESC LIMIT ${RUNS_SHOWN}) r JOIN batch_run_steps s ON s.run_id = r.id
     WHERE r.reason NOT IN ('backfill', 'rebuild') GROUP BY s.store, s.status ORDER BY s.store, s.status`,
  ),
]);

const speed = dashboard('speed', 'speed layer', [
  lines('Records, by outcome', 'cps', [`sum by (outcome) (rate(pinflow_stream_pins_total${RATE}))`, '{{outcome}}']),
  lines('Received to visible', 's', ...quantiles('pinflow_stream_visible_seconds')),
  lines('Micro-batches, records', 'short', ...quantiles('pinflow_stream_batch_pins')),
  lines('Micro-batches, transaction', 's', ...quantiles('pinflow_stream_batch_seconds')),
  lines('Lag, records', 'short', [
    'sum by (group, partition) (pinflow_consumer_lag_records)',
    '{{group}} {{partition}}',
  ]),
  lines('Lag', 's', ['max by (group) (job_group:pinflow_consumer_lag_seconds:max)', '{{group}}']),
  lines('Missing fields', 'cps', [`sum by (field) (rate(pinflow_stream_error_fields_total${RATE}))`, '{{field}}']),
  lines('Pins that lack a field', 'percentunit', ['max(job:pinflow_stream_pins_error:ratio_rate5m)', 'share']),
  lines('To the dead letter queue', 'cps', [`sum by (stage) (rate(pinflow_dlq_records_total${RATE}))`, '{{stage}}']),
  rows(
    'Erroneous pins by category, last hour',
    `SELECT category, sum(pins) FILTER (WHERE field = '') AS pins, sum(pins) FILTER (WHERE field = '*') AS erroneous
     FROM pin_error_windows WHERE slide_start > now() - interval '1 hour' GROUP BY category ORDER BY erroneous DESC NULLS LAST`,
  ),
  rows(
    'Newest erroneous pins',
    `SELECT received_at, unique_id, category, title, error_fields FROM pins WHERE is_error ORDER BY received_at DESC LIMIT 50`,
  ),
  rows(
    'Offsets of the stream',
    'SELECT topic, partition, next_offset, updated_at FROM stream_offsets ORDER BY topic, partition',
  ),
]);

const postgres = dashboard('postgres', 'Postgres', [
  number('Up', 'short', 'min(pg_up)'),
  number('Connections', 'short', 'sum(pg_stat_activity_count)'),
  number('Most connections', 'short', 'max(pg_settings_max_connections)'),
  number('Size of the databases', 'bytes', 'sum(pg_database_size_bytes)'),
  lines(
    'Transactions',
    'cps',
    [`sum(rate(pg_stat_database_xact_commit${RATE}))`, 'committed'],
    [`sum(rate(pg_stat_database_xact_rollback${RATE}))`, 'rolled back'],
  ),
  lines(
    'Rows',
    'cps',
    [`sum(rate(pg_stat_database_tup_inserted${RATE}))`, 'inserted'],
    [`sum(rate(pg_stat_database_tup_updated${RATE}))`, 'updated'],
    [`sum(rate(pg_stat_database_tup_deleted${RATE}))`, 'deleted'],
  ),
  lines('Connections by state', 'short', ['sum by (state) (pg_stat_activity_count)', '{{state}}']),
  lines('Blocks found in memory', 'percentunit', [
    `sum(rate(pg_stat_database_blks_hit${RATE})) / (sum(rate(pg_stat_database_blks_hit${RATE})) + sum(rate(pg_stat_database_blks_read${RATE})))`,
    'share',
  ]),
  lines('Locks', 'short', ['sum by (mode) (pg_locks_count)', '{{mode}}']),
  lines('Deadlocks', 'cps', [`sum(rate(pg_stat_database_deadlocks${RATE}))`, 'deadlocks']),
  rows(
    'Tables',
    `SELECT relname AS "table", n_live_tup AS rows, n_dead_tup AS dead, pg_total_relation_size(relid) AS bytes, last_autovacuum
     FROM pg_stat_user_tables ORDER BY bytes DESC`,
  ),
  rows(
    'Statements under way',
    `SELECT application_name, state, now() - query_start AS for, left(query, 200) AS query FROM pg_stat_activity
     WHERE datname = current_database() ORDER BY query_start`,
  ),
]);

/** File name under monitoring/grafana/dashboards → what it holds. */
export const DASHBOARDS = {
  'overview.json': overview,
  'edge.json': edge,
  'batch.json': batch,
  'speed.json': speed,
  'postgres.json': postgres,
} as const;

export const dashboardText = (content: object): string => `${JSON.stringify(content, null, 2)}\n`;

if (import.meta.main) {
  const folder = new URL('grafana/dashboards/', import.meta.url);
  for (const [name, content] of Object.entries(DASHBOARDS))
    await Bun.write(new URL(name, folder), dashboardText(content));
}
