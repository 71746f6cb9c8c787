import type { Position } from '../pin/pin.ts';

/**
 * The port of the log: one ordered, durable topic of records in partitions. Kafka's model, because Kafka is the real
 * one: a record has a partition and an offset, a consumer group shares the partitions, a commit is the next offset to read.
 */
export type NewRecord = {
  /** Decides the partition (Kafka's murmur2), so records of one key stay in order. UTF-8. */
  readonly key: string;
  /** UTF-8 JSON for pins; any bytes are allowed. */
  readonly value: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
};

export type LogRecord = Position & {
  readonly key: string | null;
  readonly value: Uint8Array;
  /** When the record was appended, milliseconds since the Unix epoch (Kafka: CreateTime). */
  readonly timestamp: number;
  readonly headers: Readonly<Record<string, string>>;
};

/** Records of one partition, offsets rising (gaps are possible on Kafka: control records, compaction). Never empty. */
export type LogBatch = {
  readonly partition: number;
  readonly records: readonly LogRecord[];
  /** Offset the next appended record will get: lag = highWatermark - last offset - 1. */
  readonly highWatermark: number;
};

/**
 * What a consumer does with its partitions. Calls for one partition never overlap; calls for different partitions may.
 * A throw from any of them ends `consume` with that error: the caller retries or dies and is replaced.
 */
export type ConsumerHandler = {
  /**
   * These partitions are now this member's. Answers where to start each: an offset, or null for the group's committed
   * offset (the earliest record if there is none).
   */
  readonly assigned: (partitions: readonly number[]) => Promise<ReadonlyMap<number, number | null>>;
  /** Back pressure is the promise: no further batch of this partition is delivered until it settles. */
  readonly batch: (batch: LogBatch) => Promise<void>;
  /** These partitions are no longer this member's; what was buffered for them must be dropped, not written. `close` does not call it. */
  readonly revoked: (partitions: readonly number[]) => Promise<void>;
};

export type ConsumeOptions = {
  readonly group: string;
  /** Most records in a batch. */
  readonly maxRecords: number;
  /** Most bytes of values in a batch; a single larger record is still delivered. */
  readonly maxBytes: number;
  readonly handler: ConsumerHandler;
};

export type Consumer = {
  /** Settles when the consumer has stopped: resolved by `close`, rejected by a handler's throw or a lost log. */
  readonly done: Promise<void>;
  /**
   * Commits `nextOffset` (the next to read) of a partition for the group.
   * @throws PinflowError `fenced` when this member no longer owns the partition
   */
  readonly commit: (partition: number, nextOffset: number) => Promise<void>;
  /** Delivers from `offset` on next; a batch already being handled is not recalled. */
  readonly seek: (partition: number, offset: number) => void;
  /** Waits for batches being handled, leaves the group, releases the partitions. Idempotent. */
  readonly close: () => Promise<void>;
};

export type PartitionState = {
  readonly partition: number;
  /** First offset still kept. */
  readonly start: number;
  /** Offset the next record will get. */
  readonly end: number;
};

export type PinLog = {
  readonly kind: 'sqlite' | 'kafka';
  readonly topic: string;
  /**
   * Appends, and resolves when all of them are durable (fsynced, or acked by all in-sync replicas), in the order given.
   * Several calls at once share one commit. All or nothing for one call on the embedded log; on Kafka a failed call may
   * have left some of its records in the log (at least once: the sinks fold them by id).
   * @throws PinflowError `overloaded` when more bytes wait than the bound allows (nothing was appended), `disk_full`,
   *   `log_unavailable` (retryable)
   */
  readonly append: (records: readonly NewRecord[]) => Promise<readonly Position[]>;
  readonly consume: (options: ConsumeOptions) => Consumer;
  readonly partitions: () => Promise<readonly PartitionState[]>;
  /** The group's committed next offsets; a partition without a commit is absent. */
  readonly committed: (group: string) => Promise<ReadonlyMap<number, number>>;
  /** Reads without a group: up to `limit` records from `offset` on. For `dlq`, `doctor` and the journey of a pin. */
  readonly read: (from: Position, limit: number) => Promise<readonly LogRecord[]>;
  /** Newest `timestamp` of any record kept, or null where the log cannot say cheaply. Seeds the edge's clock. */
  readonly lastTimestamp: () => Promise<number | null>;
  /** How an ack is worded in `X-Pin-Durability`. */
  readonly durability: 'broker' | 'log';
  /** Flushes what waits and closes. Idempotent. */
  readonly close: () => Promise<void>;
};
