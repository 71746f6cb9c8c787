import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { openPostgres } from '../db/postgres/open.ts';
import { dlqOf } from '../log/names.ts';
import type { Logger } from '../logger.ts';

/** Settings under which a run of chaos has every place to itself, and what of it stays behind. */
export type Places = { readonly settings: Readonly<Record<string, string>>; readonly left: readonly string[] };

/** Short, so that the run's objects and batch runs come while the faults last. */
const ARCHIVE_MAX_SECONDS = '2';
const CLEAN_CRON = '*/2 * * * * *';

const createDatabase = async (url: string, name: string, logger: Logger): Promise<string> => {
  const database = openPostgres({ url, max: 1, logger, applicationName: 'pinflow-chaos' });
  try {
    await database.sql.unsafe(`create database ${name}`);
  } finally {
    await database.close();
  }
  const created = new URL(url);
  created.pathname = `/${name}`;
  return created.toString();
};

/**
 * On the servers of `config`: a topic, a keyspace, a folder of the bucket and a database of this run's own name. Embedded parts
 * are in `dir`. @throws whatever Postgres says when its user may not create a database
 */
export const ownPlaces = async (config: Config, dir: string, name: string, logger: Logger): Promise<Places> => {
  const topic = `chaos-${name}`;
  const keyspace = `chaos_${name}`;
  const prefix = `${config.S3_PREFIX}${topic}/`;
  const url = config.DATABASE_URL && (await createDatabase(config.DATABASE_URL, keyspace, logger));
  return {
    settings: {
      DATA_DIR: join(dir, 'data'),
      PIN_TOPIC: topic,
      CQL_KEYSPACE: keyspace,
      S3_PREFIX: prefix,
      ...(url === undefined ? {} : { DATABASE_URL: url }),
      ARCHIVE_MAX_SECONDS,
      CLEAN_CRON,
      LOG_LEVEL: 'warn',
    },
    left: [
      ...(config.KAFKA_BROKERS === undefined ? [] : [`topics ${topic} and ${dlqOf(topic)}`]),
      ...(config.S3_BUCKET === undefined ? [] : [`${prefix} in bucket ${config.S3_BUCKET}`]),
      ...((config.SCYLLA_CONTACT_POINTS ?? config.CASSANDRA_CONTACT_POINTS) === undefined
        ? []
        : [`keyspace ${keyspace}`]),
      ...(url === undefined ? [] : [`database ${keyspace}`]),
    ],
  };
};

/** Below the range outgoing connections take their ports from: one of those could sit on it while a killed program is down. */
const LEAST_PORT = 15_000;
const MOST_PORT = 32_000;

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** A port on this machine that a program which is killed and started again is likely to find free each time. */
export const lastingPort = async (): Promise<number> => {
  for (;;) {
    const port = LEAST_PORT + Math.floor(Math.random() * (MOST_PORT - LEAST_PORT));
    if (await isFree(port)) return port;
  }
};
