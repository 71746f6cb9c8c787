/** Consumer groups of the pin topic. Retention holds back for both, from before they first come. */
export const ARCHIVE_GROUP = 'pinflow-archive';
export const STREAM_GROUP = 'pinflow-stream';

/** The topic of the dead letters of a topic of pins. */
export const dlqOf = (topic: string): string => `${topic}.dlq`;
