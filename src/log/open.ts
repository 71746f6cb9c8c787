import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { type Inlet, straightInlet } from './inlet.ts';
import type { PinLog } from './log.ts';
import { ARCHIVE_GROUP, dlqOf, STREAM_GROUP } from './names.ts';
import { withSpool } from './spool.ts';
import { openSqliteLog } from './sqlite.ts';

/** Nobody consumes dead letters in a group: they stay for a person, a year at least. */
const DEAD_LETTER_HOURS = 365 * 24;

type OpenOptions = { readonly logger: Logger; readonly clock?: Clock };

type TopicOptions = OpenOptions & {
  readonly topic: string;
  readonly partitions: number;
  readonly retentionHours: number;
  readonly groups: readonly string[];
};

/** The engine behind a topic, by KAFKA_BROKERS. The Kafka client is loaded only where it is asked for: it costs memory in every thread. */
const openTopic = async (config: Config, options: TopicOptions): Promise<PinLog> => {
  if (config.KAFKA_BROKERS !== undefined) {
    const { openKafkaLog } = await import('./kafka.ts');
    return openKafkaLog({ ...config, RETENTION_HOURS: options.retentionHours }, options);
  }
  return openSqliteLog({
    ...options,
    dir: config.DATA_DIR,
    retentionBytes: config.RETENTION_BYTES,
    maxPendingBytes: config.MAX_PENDING_BYTES,
  });
};

/** The log of accepted pins: topic PIN_TOPIC. @throws PinflowError `config`, `disk_full`, `log_unavailable` */
export const openLog = (config: Config, options: OpenOptions): Promise<PinLog> =>
  openTopic(config, {
    ...options,
    topic: config.PIN_TOPIC,
    partitions: config.PARTITIONS,
    retentionHours: config.RETENTION_HOURS,
    groups: [ARCHIVE_GROUP, STREAM_GROUP],
  });

type InletOptions = { readonly logger: Logger; readonly metrics: Metrics };

/**
 * The edge's way into `log`. With a broker there is a spool beside it; the embedded log has nothing to fall back from.
 * @throws PinflowError `config`, `disk_full`, `log_unavailable`
 */
export const openInlet = async (config: Config, log: PinLog, options: InletOptions): Promise<Inlet> => {
  if (log.kind !== 'kafka') return straightInlet(log);
  // Time is left for the spool within the request's own deadline.
  const deadlineMs = Math.min(config.SPOOL_DEADLINE_MS, config.REQUEST_TIMEOUT_MS / 2);
  return withSpool(log, { dir: config.DATA_DIR, maxBytes: config.SPOOL_MAX_BYTES, deadlineMs, ...options });
};

/** The dead letter queue: topic PIN_TOPIC with `.dlq`, one partition, so that letters are in one order. */
export const openDeadLetterLog = (config: Config, options: OpenOptions): Promise<PinLog> =>
  openTopic(config, {
    ...options,
    topic: dlqOf(config.PIN_TOPIC),
    partitions: 1,
    retentionHours: DEAD_LETTER_HOURS,
    groups: [],
  });
