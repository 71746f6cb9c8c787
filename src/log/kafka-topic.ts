import { type Admin, ConfigResourceTypes } from 'kafkajs';
import type { Config } from '../config.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { brokerErrorOf } from './kafka-errors.ts';

/** What the producer must know of the topic. */
export type TopicFacts = {
  /** As it was when we opened it: partitions added later are used after a restart. */
  readonly partitions: number;
  /** Largest batch, and so the largest record, the broker takes; bytes. */
  readonly maxMessageBytes: number;
};

/** A dead letter is its record as text within JSON: up to twice as long, and some words. */
const LETTER_FACTOR = 2;
const LETTER_WORDS_BYTES = 64 * 1024;
/** From this many replicas on, one may be away and an ack still means two disks. */
const REPLICAS_FOR_QUORUM = 3;
/** Kafka's and Redpanda's own limit where the topic's cannot be read, bytes. */
const DEFAULT_MAX_MESSAGE_BYTES = 1024 * 1024;

type Wanted = {
  readonly partitions: number;
  readonly replicas: number;
  readonly settings: Readonly<Record<string, number>>;
};

const wantedOf = (config: Config, partitions: number): Wanted => ({
  partitions,
  replicas: config.KAFKA_REPLICATION,
  settings: {
    'retention.ms': config.RETENTION_HOURS * 3_600_000,
    // Kafka bounds each partition, RETENTION_BYTES the whole topic.
    'retention.bytes': Math.ceil(config.RETENTION_BYTES / partitions),
    'max.message.bytes': LETTER_FACTOR * config.MAX_PIN_BYTES + LETTER_WORDS_BYTES,
    ...(config.KAFKA_REPLICATION >= REPLICAS_FOR_QUORUM ? { 'min.insync.replicas': 2 } : {}),
  },
});

type Present = {
  readonly partitions: number;
  readonly replicas: number;
  /** Null: we may not read them. */
  readonly settings: Readonly<Record<string, number>> | null;
};

/** Null when there is no such topic. */
const countsOf = async (admin: Admin, topic: string): Promise<Omit<Present, 'settings'> | null> => {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    const partitions = topics[0]?.partitions ?? [];
    return { partitions: partitions.length, replicas: partitions[0]?.replicas.length ?? 0 };
  } catch (error) {
    if (brokerErrorOf(error) === 'UNKNOWN_TOPIC_OR_PARTITION') return null;
    throw error;
  }
};

const settingsOf = async (admin: Admin, topic: string, logger: Logger): Promise<Present['settings']> => {
  try {
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
    const entries = resources[0]?.configEntries ?? [];
    return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, Number(configValue)]));
  } catch (error) {
    if (brokerErrorOf(error)?.endsWith('_AUTHORIZATION_FAILED') !== true) throw error;
    logger.debug({ topic, error: messageOf(error) }, 'the settings of the topic may not be read: they are not checked');
    return null;
  }
};

/** What each difference means and how it is mended; one line each. */
const differences = (topic: string, present: Present, wanted: Wanted): readonly string[] => {
  const lines: string[] = [];
  if (present.partitions !== wanted.partitions) {
    lines.push(
      `it has ${present.partitions} partitions, PARTITIONS asks for ${wanted.partitions}: set PARTITIONS=${present.partitions}, or, as keys then move, make a new topic`,
    );
  }
  if (present.replicas !== wanted.replicas) {
    lines.push(
      `it has ${present.replicas} replicas, KAFKA_REPLICATION asks for ${wanted.replicas}: reassign its partitions`,
    );
  }
  for (const [name, value] of Object.entries(wanted.settings)) {
    const is = present.settings?.[name];
    // More room for large records than we need does no harm.
    const isFine = is === undefined || is === value || (name === 'max.message.bytes' && is > value);
    if (!isFine) lines.push(`${name} is ${is}, not ${value}: rpk topic alter-config ${topic} --set ${name}=${value}`);
  }
  return lines;
};

/** @returns false when another was faster */
const create = (admin: Admin, topic: string, wanted: Wanted): Promise<boolean> =>
  admin.createTopics({
    waitForLeaders: true,
    topics: [
      {
        topic,
        numPartitions: wanted.partitions,
        replicationFactor: wanted.replicas,
        configEntries: Object.entries(wanted.settings).map(([name, value]) => ({ name, value: String(value) })),
      },
    ],
  });

/**
 * Creates the topic when it is missing; when it is there and differs from what is asked for, says how, and leaves it as it is.
 * @throws what kafkajs throws
 */
export const ensureTopic = async (
  admin: Admin,
  { topic, config, logger, partitions }: { topic: string; config: Config; logger: Logger; partitions: number },
): Promise<TopicFacts> => {
  const wanted = wantedOf(config, partitions);
  const known = await countsOf(admin, topic);
  if (known === null && (await create(admin, topic, wanted))) {
    logger.info({ topic, partitions, replicas: wanted.replicas }, 'topic created');
  }
  const counts = known ?? (await countsOf(admin, topic)) ?? wanted;
  const settings = await settingsOf(admin, topic, logger);
  for (const line of differences(topic, { ...counts, settings }, wanted)) {
    logger.warn({ topic }, `topic ${topic} differs from what is set: ${line}`);
  }
  const maxMessageBytes = settings?.['max.message.bytes'] ?? DEFAULT_MAX_MESSAGE_BYTES;
  return { partitions: counts.partitions, maxMessageBytes };
};
