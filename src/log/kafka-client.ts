import { readFileSync } from 'node:fs';
import { type Cluster, Kafka, type KafkaConfig, type LogEntry, logLevel, PartitionAssigners } from 'kafkajs';
import RequestQueue from 'kafkajs/src/network/requestQueue';
import Encoder from 'kafkajs/src/protocol/encoder';
import type { Config } from '../config.ts';
import { messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { registerCodecs } from './kafka-codecs.ts';
import { explainKafka } from './kafka-errors.ts';
import { fetchBatches } from './kafka-fetch.ts';

/** A broker in another region answers in well under this; one that is gone should not hold the edge up. Milliseconds. */
const CONNECT_TIMEOUT_MS = 3000;
/** Part of REQUEST_TIMEOUT_MS that one request may take, so that there is time left to send it again; and the least, milliseconds. */
const REQUEST_PART = 0.8;
const MIN_REQUEST_TIMEOUT_MS = 1000;
/**
 * Retries within one call of kafkajs: few, as all that lasts is for our own loops, which say so and go on. A broker that
 * refuses us should be known for it within half a second.
 */
const RETRY = { retries: 2, initialRetryTime: 100, maxRetryTime: 1000, multiplier: 2, factor: 0.2 } as const;

/** Everything the parts of this adapter share. */
export type KafkaClient = {
  readonly kafka: Kafka;
  readonly config: Config;
  readonly topic: string;
  readonly logger: Logger;
  /** See {@link explainKafka}. */
  readonly explain: (error: unknown) => PinflowError;
  /** A commit of what is another member's. */
  readonly fenced: (group: string, partition: number) => PinflowError;
  /** Logs a failure that goes on and on, at most once each {@link COMPLAINT_MS}. */
  readonly complain: (error: PinflowError) => void;
};

/** At most one line about a broker that is away in this time, milliseconds. */
const COMPLAINT_MS = 10_000;

/**
 * kafkajs 2.2.4 sets a timer with a negative delay for each answered request even when nothing is pending: a warning on the
 * terminal, and then a timer each millisecond for as long as a connection lives. Without pending requests there is nothing to check.
 */
const check = RequestQueue.prototype.scheduleCheckPendingRequests;
RequestQueue.prototype.scheduleCheckPendingRequests = function checkIfPending() {
  if (this.pending.length > 0) check.call(this);
};

/**
 * kafkajs 2.2.4 grows a request through buffers it first fills with zeroes: an eighth of the work of a bulk append. What is
 * sent is only what was written since.
 */
Encoder.prototype.ensureAvailable = function grow(length) {
  const needed = this.offset + length;
  if (needed <= this.buf.length) return;
  const grown = Buffer.allocUnsafeSlow(Encoder.nextPowerOfTwo(needed));
  this.buf.copy(grown, 0, 0, this.offset);
  this.buf = grown;
};

/** kafkajs reports each failed attempt as an error. We report what it comes to ourselves, so its lines are for debugging. */
const logCreator =
  (logger: Logger) =>
  () =>
  ({ namespace, label, log }: LogEntry): void => {
    const { message, timestamp: _, logger: __, ...rest } = log;
    logger.debug({ ...rest, kafkajs: namespace, severity: label }, message);
  };

const tlsOf = (config: Config): KafkaConfig['ssl'] => {
  if (!config.KAFKA_TLS) return undefined;
  const file = config.KAFKA_TLS_CA_FILE;
  if (file === undefined) return true;
  try {
    return { ca: [readFileSync(file, 'utf8')] };
  } catch (error) {
    throw new PinflowError('config', `KAFKA_TLS_CA_FILE=${file} cannot be read: ${messageOf(error)}`, { cause: error });
  }
};

const saslOf = (config: Config): KafkaConfig['sasl'] => {
  const {
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_SASL_USERNAME: username = '',
    KAFKA_SASL_PASSWORD: password = '',
  } = config;
  return mechanism === undefined ? undefined : ({ mechanism, username, password } as KafkaConfig['sasl']);
};

/** @throws PinflowError `config` when KAFKA_BROKERS is not set or the CA file cannot be read; nothing is connected yet */
export const createKafkaClient = (config: Config, topic: string, logger: Logger): KafkaClient => {
  const brokers = config.KAFKA_BROKERS ?? [];
  if (brokers.length === 0) throw new PinflowError('config', 'KAFKA_BROKERS is not set: name at least one host:port.');
  registerCodecs();
  fetchBatches();
  const kafka = new Kafka({
    clientId: config.KAFKA_CLIENT_ID,
    brokers: [...brokers],
    ssl: tlsOf(config),
    sasl: saslOf(config),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    authenticationTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: Math.max(MIN_REQUEST_TIMEOUT_MS, REQUEST_PART * config.REQUEST_TIMEOUT_MS),
    retry: RETRY,
    logLevel: logLevel.INFO,
    logCreator: logCreator(logger),
  });
  let complainedAt = Number.NEGATIVE_INFINITY;
  const complain = (error: PinflowError) => {
    if (performance.now() - complainedAt < COMPLAINT_MS) return;
    complainedAt = performance.now();
    logger.warn({ topic, error: error.message }, 'the log cannot be reached; trying again');
  };
  return {
    kafka,
    config,
    topic,
    logger,
    complain,
    explain: (error) => explainKafka(error, config, topic),
    fenced: (group, partition) =>
      new PinflowError(
        'fenced',
        `partition ${partition} of topic ${topic} is no longer this member's in group ${group}.`,
      ),
  };
};

/** kafkajs' connection to the cluster itself, which it shows to partition assigners only: `fetch` is nowhere else. */
export const createCluster = (kafka: Kafka): Cluster => {
  let cluster: Cluster | undefined;
  kafka.consumer({
    groupId: 'none',
    partitionAssigners: [
      (config) => {
        cluster = config.cluster;
        return PartitionAssigners.roundRobin(config);
      },
    ],
  });
  return cluster as unknown as Cluster;
};

export type Link<T> = {
  /** @throws what `open` or `work` threw; the next call opens anew */
  readonly use: <R>(work: (connected: T) => Promise<R>) => Promise<R>;
  readonly close: () => Promise<void>;
};

/** A connection opened when first needed, and given up after a failure, as kafkajs does not always find its way back. */
export const createLink = <T>(open: () => Promise<T>, close: (connected: T) => Promise<void>): Link<T> => {
  let current: Promise<T> | null = null;
  const drop = (link: Promise<T>) => {
    if (current === link) current = null;
    return link.then(close).catch(() => {});
  };
  return {
    use: async (work) => {
      current ??= open();
      const link = current;
      try {
        return await work(await link);
      } catch (error) {
        void drop(link);
        throw error;
      }
    },
    close: async () => {
      if (current !== null) await drop(current);
    },
  };
};
