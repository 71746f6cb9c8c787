import type { Config } from '../config.ts';
import type { Logger } from '../logger.ts';
import { createKafkaClient } from './kafka-client.ts';
import { createKafkaConsumer } from './kafka-consumer.ts';
import { createKafkaProducer } from './kafka-producer.ts';
import { pursue } from './kafka-pursuit.ts';
import { createKafkaReader } from './kafka-reader.ts';
import type { Consumer, PinLog } from './log.ts';

export type KafkaLogOptions = {
  readonly topic: string;
  readonly logger: Logger;
  /** Of a new topic. An existing one keeps its number, with a warning. (Default: PARTITIONS) */
  readonly partitions?: number;
};

/**
 * The log on Redpanda or Kafka, by kafkajs. Returns at once, also when no broker answers: it goes on trying, appends are
 * refused with `log_unavailable` meanwhile, and consumers wait.
 * @throws PinflowError `config` when KAFKA_BROKERS is missing or KAFKA_TLS_CA_FILE cannot be read
 */
export const openKafkaLog = async (config: Config, options: KafkaLogOptions): Promise<PinLog> => {
  const { topic, logger, partitions = config.PARTITIONS } = options;
  const client = createKafkaClient(config, topic, logger);
  const reader = createKafkaReader(client);
  const facts = pursue(() => reader.ensureTopic(partitions), client.complain);
  const producer = createKafkaProducer(client, facts);
  const consumers = new Set<Consumer>();
  let closing: Promise<void> | null = null;

  const close = async () => {
    await Promise.all([...consumers].map((consumer) => consumer.close()));
    await producer.close();
    await facts.close();
    await reader.close();
  };

  // Starts the search; who needs the topic waits for it, or hears why not.
  facts.get().catch(() => {});
  return {
    kind: 'kafka',
    topic,
    durability: 'broker',
    append: producer.append,
    consume: (consumeOptions) => {
      const consumer = createKafkaConsumer({ client, topic: facts, reader }, consumeOptions);
      consumers.add(consumer);
      const forget = () => consumers.delete(consumer);
      consumer.done.then(forget, forget);
      return consumer;
    },
    partitions: async () => {
      await facts.get();
      return reader.partitions();
    },
    committed: reader.committed,
    read: async (from, limit) => {
      await facts.get();
      return reader.read(from, limit);
    },
    // The newest record's timestamp is its producer's word: one clock that is wrong would move the edge's for good.
    lastTimestamp: async () => null,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
};
