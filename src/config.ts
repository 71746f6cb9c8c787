import { z } from 'zod';
import { PinflowError } from './errors.ts';

/**
 * The only reader of the environment. Every setting is one row: name, shape, default and what it is for; docs/configuration.md
 * is made from these rows (`bun run docs`), and a test holds the two together.
 */
type Setting<T extends z.ZodType> = {
  readonly schema: T;
  /** The text form of the default, or null when unset means "off" or "the embedded part". */
  readonly fallback: string | null;
  readonly doc: string;
  readonly secret: boolean;
};

const setting = <T extends z.ZodType>(schema: T, fallback: string | null, doc: string, secret = false): Setting<T> => ({
  schema,
  fallback,
  doc,
  secret,
});

const text = z.string().min(1);
const optional = text.optional();
const int = (min: number, max: number) =>
  z
    .string()
    .regex(/^-?\d+$/, { error: `should be a whole number from ${min} to ${max}` })
    .transform(Number)
    .pipe(
      z
        .number()
        .min(min, { error: `should be at least ${min}` })
        .max(max, { error: `should be at most ${max}` }),
    );
const bool = z.enum(['true', 'false'], { error: 'should be true or false' }).transform((v) => v === 'true');
const list = z
  .string()
  .transform((v) => v.split(',').flatMap((item) => item.trim() || []))
  .refine((items) => items.length > 0, { error: 'should have at least one entry' });
const share = z
  .string()
  .regex(/^\d*\.?\d+$/, { error: 'should be a number from 0 to 1' })
  .transform(Number)
  .pipe(z.number().max(1, { error: 'should be at most 1' }));
const namedValues = list
  .refine((items) => items.every((item) => /^[^=\s]+=.+$/.test(item)), {
    error: 'should be name=value, or several with commas between',
  })
  .transform((items) =>
    Object.fromEntries(items.map((item) => [item.slice(0, item.indexOf('=')), item.slice(item.indexOf('=') + 1)])),
  );
const brokers = list.refine((items) => items.every((item) => /^[^\s/]+:\d{1,5}$/.test(item)), {
  error: 'should be host:port, or several with commas between',
});
const url = (...protocols: string[]) =>
  z
    .string()
    .refine((v) => URL.canParse(v) && protocols.includes(new URL(v).protocol), {
      error: `should be a URL with ${protocols.join(' or ')}`,
    })
    .optional();

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

export const SETTINGS = {
  HOST: setting(text, '127.0.0.1', 'Address the edge listens on. Other than loopback needs API_KEYS.'),
  PORT: setting(int(0, 65_535), '8000', 'Port the edge listens on; 0 takes a free one.'),
  REUSE_PORT: setting(
    bool,
    'false',
    'true lets several edges of this machine listen on PORT; the system deals connections among them. On Linux only: elsewhere Bun ignores it. Each needs a DATA_DIR of its own, and KAFKA_BROKERS the log they share.',
  ),
  METRICS_PORT: setting(
    int(0, 65_535).optional(),
    null,
    'Port of /metrics, /healthz and /readyz of this process alone, with an edge or without; 0 takes a free one. Unset: none.',
  ),
  DATA_DIR: setting(text, './.data', 'Folder of the embedded parts, the spool and the lock. Created when missing.'),
  LOG_LEVEL: setting(
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    'info',
    'Least severity that is logged: trace, debug, info, warn, error or silent.',
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: setting(
    url('http:', 'https:'),
    null,
    'URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318. Unset: no traces, and nothing of it is loaded.',
  ),
  OTEL_EXPORTER_OTLP_HEADERS: setting(
    namedValues.optional(),
    null,
    'Comma-separated `name=value` headers sent to the collector.',
    true,
  ),
  OTEL_SERVICE_NAME: setting(text, 'pinflow', 'Name of this program in the traces.'),
  OTEL_TRACES_SAMPLER_ARG: setting(
    share,
    '1',
    'Share of requests that are traced, 0 to 1, unless their own traceparent header says so. Lower it for many requests a second.',
  ),
  API_KEYS: setting(
    list.optional(),
    null,
    'Comma-separated keys, each `name:key`; a request then needs `Authorization: Bearer <key>`. Unset: open, on loopback only.',
    true,
  ),

  MAX_PIN_BYTES: setting(int(KIB, 16 * MIB), String(2 * MIB), 'Largest single pin, bytes. Larger is 413.'),
  MAX_BODY_BYTES: setting(int(KIB, 256 * MIB), String(16 * MIB), 'Largest body of POST /pins, bytes. Larger is 413.'),
  MAX_BULK_PINS: setting(int(1, 1_000_000), '20000', 'Most pins in one POST /pins. More is 413.'),
  MAX_PENDING_BYTES: setting(
    int(MIB, 16 * GIB),
    String(64 * MIB),
    'Most bytes of pins waiting at the edge to become durable. Beyond it the answer is 503 with Retry-After.',
  ),
  REQUEST_TIMEOUT_MS: setting(
    int(100, 600_000),
    '10000',
    'Longest a request waits for its pins to become durable, milliseconds; then 503.',
  ),
  FEEDBACK_WAIT_MS: setting(
    int(100, 60_000),
    '5000',
    'Longest POST /pin/?wait=feedback waits for the speed layer once the pin is durable, milliseconds; then 202.',
  ),
  DRAIN_TIMEOUT_MS: setting(
    int(100, 600_000),
    '15000',
    'Longest a shutdown waits for what is under way, milliseconds.',
  ),

  PIN_TOPIC: setting(
    z.string().regex(/^[A-Za-z0-9._-]{1,200}$/, { error: 'should be 1 to 200 of A-Za-z0-9._-' }),
    'pins',
    'Topic of accepted pins. Its dead letter queue is the topic of this name with `.dlq`.',
  ),
  PARTITIONS: setting(int(1, 1000), '3', 'Partitions of the topic when it is created.'),
  RETENTION_HOURS: setting(
    int(1, 87_600),
    '168',
    'Records older than this leave the log once every group has read them, hours.',
  ),
  RETENTION_BYTES: setting(
    int(MIB, 1024 * GIB),
    String(4 * GIB),
    'Bytes the log keeps at most, once every group has read them.',
  ),
  KAFKA_BROKERS: setting(
    brokers.optional(),
    null,
    'Comma-separated host:port of Redpanda or Kafka. Unset: the embedded log.',
  ),
  KAFKA_REPLICATION: setting(int(1, 15), '1', 'Replication factor of topics this program creates.'),
  KAFKA_CLIENT_ID: setting(text, 'pinflow', 'Client id shown by the broker.'),
  KAFKA_SASL_MECHANISM: setting(
    z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).optional(),
    null,
    'SASL mechanism: plain, scram-sha-256 or scram-sha-512. Unset: no authentication.',
  ),
  KAFKA_SASL_USERNAME: setting(optional, null, 'SASL user name.'),
  KAFKA_SASL_PASSWORD: setting(optional, null, 'SASL password.', true),
  KAFKA_TLS: setting(bool, 'false', 'true encrypts the connection to the broker.'),
  KAFKA_TLS_CA_FILE: setting(
    optional,
    null,
    'PEM file with the certificate authority of the broker, if it is not a public one.',
  ),

  SPOOL_MAX_BYTES: setting(
    int(MIB, 1024 * GIB),
    String(GIB),
    'Most bytes of pins kept in DATA_DIR while the broker fails. Beyond it the answer is 503 with Retry-After.',
  ),
  SPOOL_DEADLINE_MS: setting(
    int(50, 600_000),
    '3000',
    'Longest pins wait for the broker before they go to the spool, milliseconds; at most half of REQUEST_TIMEOUT_MS is used.',
  ),

  S3_BUCKET: setting(optional, null, 'Bucket of the archive. Unset: files under DATA_DIR.'),
  S3_ENDPOINT: setting(
    url('http:', 'https:'),
    null,
    'URL of an S3 server other than AWS. Path-style addressing is used with it. NODE_EXTRA_CA_CERTS names the PEM file of a certificate authority that is not a public one. A server that does not honour `If-None-Match: *` is found out, and `doctor` says so: then there may be one archive worker in all.',
  ),
  S3_PREFIX: setting(
    z.string().regex(/^([A-Za-z0-9=_.-]+\/)*$/, { error: 'should be empty or folders that each end in /' }),
    '',
    'Put before every key, such as `prod/`.',
  ),
  S3_SSE: setting(
    z.enum(['AES256', 'aws:kms']).optional(),
    null,
    'Server-side encryption asked for: AES256 or aws:kms.',
  ),
  AWS_REGION: setting(text, 'us-east-1', 'Region of the bucket.'),
  AWS_ACCESS_KEY_ID: setting(optional, null, 'Access key. Unset: the usual chain of the AWS SDK.', true),
  AWS_SECRET_ACCESS_KEY: setting(optional, null, 'Secret key.', true),

  ARCHIVE_MAX_BYTES: setting(
    int(KIB, GIB),
    String(8 * MIB),
    'An archive object is closed at this many bytes before compression.',
  ),
  ARCHIVE_MAX_PINS: setting(int(1, 10_000_000), '50000', 'An archive object is closed at this many pins.'),
  ARCHIVE_MAX_SECONDS: setting(
    int(1, 86_400),
    '10',
    'An archive object is closed at this age in seconds, also when no new pin comes.',
  ),

  SCYLLA_CONTACT_POINTS: setting(
    list.optional(),
    null,
    'Comma-separated host[:port] of ScyllaDB. With neither this nor CASSANDRA_CONTACT_POINTS: the embedded store.',
  ),
  SCYLLA_DATACENTER: setting(text, 'datacenter1', 'Local data centre of ScyllaDB.'),
  SCYLLA_USERNAME: setting(optional, null, 'User name at ScyllaDB.'),
  SCYLLA_PASSWORD: setting(optional, null, 'Password at ScyllaDB.', true),
  CASSANDRA_CONTACT_POINTS: setting(
    list.optional(),
    null,
    'Comma-separated host[:port] of Cassandra. Both set: both are written, each with its own progress.',
  ),
  CASSANDRA_DATACENTER: setting(text, 'datacenter1', 'Local data centre of Cassandra.'),
  CASSANDRA_USERNAME: setting(optional, null, 'User name at Cassandra.'),
  CASSANDRA_PASSWORD: setting(optional, null, 'Password at Cassandra.', true),
  CQL_KEYSPACE: setting(
    z.string().regex(/^[a-z][a-z0-9_]{0,47}$/, { error: 'should be a lower-case CQL name' }),
    'pinkeyspace',
    'Keyspace of the batch view.',
  ),
  CQL_REPLICATION: setting(
    int(1, 15),
    '1',
    'Replicas in the local data centre when the keyspace is created (NetworkTopologyStrategy).',
  ),
  CQL_QUERY_TABLES: setting(
    bool,
    'false',
    'true also writes pins_by_category_day and top_pins_by_category: each upsert then reads before it writes. `clean --rebuild` fills them for what was there before.',
  ),

  DATABASE_URL: setting(
    url('postgres:', 'postgresql:'),
    null,
    'Postgres of the speed view and the run ledger. Unset: an embedded Postgres under DATA_DIR. With `?sslmode=verify-full` its certificate is checked, also against the PEM file of NODE_EXTRA_CA_CERTS.',
    true,
  ),
  POSTGRES_PORT: setting(int(0, 65_535), '0', 'Port of the embedded Postgres on 127.0.0.1; 0 takes a free one.'),
  STREAM_MAX_PINS: setting(
    int(1, 100_000),
    '5000',
    'Most pins in one micro-batch; the embedded Postgres gets 2000 at the most.',
  ),
  STREAM_MAX_BYTES: setting(int(KIB, 256 * MIB), String(8 * MIB), 'Most bytes of pins in one micro-batch.'),

  SPEED_KEPT_DAYS: setting(
    int(0, 36_500),
    '0',
    'Rows of the speed view (`pins`) are removed so many days after received_at; 0 keeps them for ever. The archive and the batch view keep all.',
  ),
  WINDOWS_KEPT_DAYS: setting(
    int(0, 36_500),
    '30',
    'Error windows are removed after so many days; 0 keeps them for ever.',
  ),

  TRINO_URL: setting(url('http:', 'https:'), null, 'Trino coordinator for `query`. Unset: the embedded store answers.'),
  TRINO_USER: setting(text, 'pinflow', 'User name sent to Trino.'),
  TRINO_CATALOG: setting(text, 'cassandra', 'Catalog a plain table name is looked up in.'),
  TRINO_PRESTO_HEADERS: setting(
    bool,
    'false',
    'true sends X-Presto-* instead of X-Trino-* headers, for a Presto coordinator.',
  ),

  CLEAN_CRON: setting(text, '*/1 * * * *', 'When batch runs start, as a cron expression; `off` for none.'),
  CLEAN_TIMEZONE: setting(text, 'UTC', 'Time zone of CLEAN_CRON and RECONCILE_CRON.'),
  RECONCILE_CRON: setting(
    text,
    'off',
    'When `reconcile` runs by itself, as a cron expression, and shows its result as metrics. It reads every place whole: choose a quiet hour.',
  ),
  CLEAN_TIMEOUT_SECONDS: setting(
    int(1, 86_400),
    '3600',
    'A batch run that takes longer is ended and taken up by the next, seconds. Backfills and rebuilds have no limit.',
  ),
  CLEAN_CATCH_UP: setting(
    bool,
    'false',
    'true makes up, by one run, for the times of CLEAN_CRON that came while nothing ran. Without it the next time does: what waits is cleaned either way.',
  ),
  CLEAN_JITTER_SECONDS: setting(
    int(0, 3600),
    '0',
    'A scheduled run waits a random time up to this before it begins, seconds.',
  ),
  CLEAN_RETRIES: setting(int(0, 10), '1', 'Retries of a scheduled run that failed, unless another run comes before.'),
  CLEAN_RETRY_SECONDS: setting(
    int(1, 86_400),
    '300',
    'Wait before the first retry, seconds; doubles from retry to retry, up to six hours.',
  ),
  CLEAN_LONG_FACTOR: setting(
    int(2, 1000),
    '5',
    'A batch run that takes longer than so many times the median raises the alert run_long.',
  ),
  CLEAN_LATE_MINUTES: setting(
    int(1, 10_080),
    '15',
    'An archive object that is known for longer and not in a batch view raises the alert archive_late, minutes.',
  ),
  CLEAN_KEPT_DAYS: setting(
    int(1, 3650),
    '30',
    'Batch runs and their steps leave the ledger after so many days; the newest 100 stay.',
  ),

  WORKERS_ARCHIVE: setting(
    int(0, 64),
    '1',
    'Archive worker threads in this process; 0 runs them elsewhere. On an S3 server without If-None-Match there may be one in all.',
  ),
  WORKERS_CLEAN: setting(
    int(0, 1),
    '1',
    'Clean worker threads in this process; one at a time runs across all processes anyway.',
  ),
  WORKERS_STREAM: setting(int(0, 64), '1', 'Stream worker threads in this process.'),
} as const satisfies Record<string, Setting<z.ZodType>>;

export type SettingName = keyof typeof SETTINGS;
export type Config = { readonly [K in SettingName]: z.output<(typeof SETTINGS)[K]['schema']> };

const readOne = (name: SettingName, raw: string | undefined): { value: unknown } | { problem: string } => {
  const { schema, fallback, secret } = SETTINGS[name];
  const given = raw === undefined || (raw === '' && fallback !== '') ? (fallback ?? undefined) : raw;
  const parsed = schema.safeParse(given);
  if (parsed.success) return { value: parsed.data };
  const why = parsed.error.issues.map((i) => i.message).join(', ');
  // A URL may carry a password also where none is expected.
  const shown = secret ? '' : `=${JSON.stringify(given?.replace(/\/\/[^@/]*@/, '//***@'))}`;
  return { problem: `${name}${shown}: ${why}. ${SETTINGS[name].doc}` };
};

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

/** Rules that span settings. Each answers what is wrong, or null. */
const crossChecks: readonly ((c: Config) => string | null)[] = [
  (c) =>
    !LOOPBACK.has(c.HOST) && (c.API_KEYS?.length ?? 0) === 0
      ? `HOST=${c.HOST} is reachable from other machines: set API_KEYS, or HOST=127.0.0.1.`
      : null,
  (c) => (c.REUSE_PORT && c.PORT === 0 ? 'REUSE_PORT=true, but PORT=0 takes a free one: set one PORT for all.' : null),
  (c) => (c.REUSE_PORT && !c.KAFKA_BROKERS ? 'REUSE_PORT=true: set KAFKA_BROKERS, the log they share.' : null),
  (c) =>
    c.KAFKA_SASL_MECHANISM !== undefined && (c.KAFKA_SASL_USERNAME === undefined || c.KAFKA_SASL_PASSWORD === undefined)
      ? 'KAFKA_SASL_MECHANISM is set: set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD too.'
      : null,
  (c) => (c.MAX_PIN_BYTES > c.MAX_BODY_BYTES ? 'MAX_PIN_BYTES is above MAX_BODY_BYTES: raise the latter.' : null),
  (c) =>
    (c.AWS_ACCESS_KEY_ID === undefined) !== (c.AWS_SECRET_ACCESS_KEY === undefined)
      ? 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: set both or neither.'
      : null,
  (c) =>
    (c.API_KEYS ?? []).some((k) => !/^[^:]{1,64}:.{16,}$/.test(k))
      ? 'API_KEYS: each should be `name:key` with a key of at least 16 characters.'
      : null,
];

/**
 * Environment → one frozen object.
 * @throws PinflowError `config` that names every variable that is wrong, what it should be, and never a secret's value
 */
export const readConfig = (env: Readonly<Record<string, string | undefined>> = process.env): Config => {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const read = readOne(name, env[name]);
    if ('problem' in read) problems.push(read.problem);
    else values[name] = read.value;
  }
  const config = Object.freeze(values) as Config;
  if (problems.length === 0) problems.push(...crossChecks.flatMap((check) => check(config) ?? []));
  if (problems.length > 0)
    throw new PinflowError('config', `the environment is not right:\n  ${problems.join('\n  ')}`);
  return config;
};

/** The environment of a process to be started: this one's, with some settings of its own. */
export const environmentWith = (settings: Readonly<Record<string, string>>): Record<string, string> => ({
  ...(process.env as Record<string, string>),
  ...settings,
});
