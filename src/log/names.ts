/** Consumer groups of the pin topic. Retention holds back for both, from before they first come. */
export const ARCHIVE_GROUP = 'pinflow-archive';
export const STREAM_GROUP = 'pinflow-stream';

/** The topic of the dead letters of a topic of pins. */
export const dlqOf = (topic: string): string => `${topic}.dlq`;

const DEFAULT_TOPIC = 'pins';

/**
 * What a group of a topic is called on the broker. Its members must all want the same topic, as the one that shares out the partitions
 * (kafkajs) knows its own only: a second pinflow on the broker would get none. The default topic's has the bare name.
 */
export const groupIdOf = (group: string, topic: string): string =>
  topic === DEFAULT_TOPIC ? group : `${group}.${topic}`;
