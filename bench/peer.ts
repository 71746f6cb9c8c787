import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Redpanda Connect beside us, on the same servers in the same run: bench/README.md says how to get it. */
const binary = process.env.RPCONNECT;

export type Peer = { readonly pid: number; readonly stop: () => Promise<void> };

export const hasPeer = binary !== undefined;

/** The path of its binary. @throws Error when it is not set, which a bench that cannot do without asks before it starts anything */
export const requirePeer = (): string => {
  if (binary === undefined) throw new Error('RPCONNECT should be the path of redpanda-connect: see bench/README.md');
  return binary;
};

/** Starts it with a configuration. Resolves at once: the benches wait for what it should do. */
export const startPeer = (config: object): Peer => {
  const file = join(mkdtempSync(join(tmpdir(), 'pinflow-peer-')), 'config.json');
  writeFileSync(file, JSON.stringify({ http: { enabled: false }, logger: { level: 'ERROR' }, ...config }));
  const child = Bun.spawn([requirePeer(), 'run', file], { stdout: 'inherit', stderr: 'inherit' });
  return {
    pid: child.pid,
    stop: async () => {
      child.kill();
      await child.exited;
    },
  };
};

const httpInput = (port: number, path: string, answer: object) => ({
  http_server: { address: `127.0.0.1:${port}`, path, allowed_verbs: ['POST'], timeout: '10s', ...answer },
});

const kafkaOutput = (brokers: readonly string[], topic: string, rest: object) => ({
  kafka_franz: { seed_brokers: brokers, topic, key: '${! json("unique_id") }', ...rest },
});

/** One pin a request: its best of several batchings tried (64 and 256 connections, with and without a mapping). */
export const singleConfig = (port: number, brokers: readonly string[], topic: string) => ({
  input: httpInput(port, '/pin/', { sync_response: { status: '200' } }),
  pipeline: { threads: -1, processors: [{ mapping: 'root = this\nroot.index = this.index.int64()' }] },
  output: kafkaOutput(brokers, topic, {
    max_in_flight: 512,
    compression: 'none',
    batching: { count: 500, period: '2ms' },
  }),
});

/** NDJSON bodies, a record a line. */
export const bulkConfig = (port: number, brokers: readonly string[], topic: string) => ({
  input: httpInput(port, '/pins', {}),
  pipeline: {
    threads: -1,
    processors: [{ unarchive: { format: 'lines' } }, { mapping: 'root = this\nroot.index = this.index.int64()' }],
  },
  output: kafkaOutput(brokers, topic, { max_in_flight: 64, compression: 'zstd' }),
});

const kafkaInput = (brokers: readonly string[], topic: string, rest: object) => ({
  kafka_franz: { seed_brokers: brokers, topics: [topic], consumer_group: `peer-${crypto.randomUUID()}`, ...rest },
});

/** Log → Postgres, cleaned as far as its language does it in the same spirit. */
export const postgresConfig = (brokers: readonly string[], topic: string, dsn: string) => ({
  input: kafkaInput(brokers, topic, { checkpoint_limit: 10_000, batching: { count: 1000, period: '100ms' } }),
  pipeline: {
    threads: -1,
    processors: [
      {
        mapping: [
          'root = this',
          'root.follower_count = if this.follower_count == "User Info Error" { null } else { this.follower_count.replace_all(",","").replace_all("k","000").replace_all("M","000000").int64().catch(null) }',
          'root.title = if this.title == "No Title Data Available" { null } else { this.title }',
          'root.save_location = this.save_location.slice(14)',
          'root.tag_list = "{\\"" + this.tag_list.split(",").join("\\",\\"") + "\\"}"',
        ].join('\n'),
      },
    ],
  },
  output: {
    sql_insert: {
      driver: 'postgres',
      dsn,
      table: 'peer_pins',
      columns: [
        'unique_id',
        'category',
        'title',
        'description',
        'follower_count',
        'tag_list',
        'is_image_or_video',
        'image_src',
        'downloaded',
        'save_location',
        'index_no',
        'is_error',
      ],
      args_mapping:
        'root = [this.unique_id,this.category,this.title,this.description,this.follower_count,this.tag_list,this.is_image_or_video,this.image_src,this.downloaded,this.save_location,this.index,this.follower_count == null]',
      suffix: 'ON CONFLICT (unique_id) DO NOTHING',
      max_in_flight: 4,
    },
  },
});

export const PEER_TABLE = `create table peer_pins(unique_id uuid primary key, category text, title text, description text, follower_count bigint,
  tag_list text[], is_image_or_video text, image_src text, downloaded int, save_location text, index_no int, is_error boolean)`;

/**
 * Log → S3, gzip, 10,000 pins an object.
 * @param level of gzip; -1 is its default, the compression library's own choice
 */
export const s3Config = (
  brokers: readonly string[],
  topic: string,
  s3: Readonly<Record<string, string | undefined>>,
  level = -1,
) => ({
  input: kafkaInput(brokers, topic, { checkpoint_limit: 100_000 }),
  output: {
    aws_s3: {
      bucket: s3.S3_BUCKET,
      path: 'peer/${! count("f") }-${! timestamp_unix_nano() }.ndjson.gz',
      endpoint: s3.S3_ENDPOINT,
      region: s3.AWS_REGION,
      force_path_style_urls: true,
      credentials: { id: s3.AWS_ACCESS_KEY_ID, secret: s3.AWS_SECRET_ACCESS_KEY },
      max_in_flight: 8,
      batching: {
        count: 10_000,
        period: '2s',
        processors: [{ archive: { format: 'lines' } }, { compress: { algorithm: 'gzip', level } }],
      },
    },
  },
});
