import { CompressionCodecs, type KafkaMessage } from 'kafkajs';
import response from 'kafkajs/src/protocol/requests/fetch/v11/response';
import { messageOf, PinflowError } from '../errors.ts';
import type { RecordBatch } from './kafka-decoding.ts';
import { compressionOf, controlKey, decodeRecords, isControl, isTransactional, readBatches } from './kafka-decoding.ts';
import { toLogRecord } from './kafka-records.ts';
import type { LogRecord } from './log.ts';

/**
 * What a fetch brings, with a batch of records where kafkajs has a message: it asks of a message only its offset, whether it
 * is a control record, and whose transaction it is in, and all of these are one for a batch. So its own handling
 * of transactions and offsets holds, and the records stay compressed until somebody takes them.
 */
export type FetchedBatch = {
  /** Of its last record, as kafkajs reads what was fetched on from there. */
  readonly offset: string;
  readonly isControlRecord: boolean;
  /** Of a control record, else null. */
  readonly key: Buffer | null;
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean };
  readonly batch: RecordBatch;
};

/** A batch, or a message as kafkajs itself reads it from a broker or a log of an older format. */
export type Fetched = FetchedBatch | (KafkaMessage & { readonly isControlRecord?: boolean });

const toFetched = (batch: RecordBatch): FetchedBatch => ({
  offset: String(batch.lastOffset),
  isControlRecord: isControl(batch),
  key: isControl(batch) ? controlKey(batch) : null,
  batchContext: { producerId: batch.producerId, inTransaction: isTransactional(batch) },
  batch,
});

/** First offset of a batch or message, also where its record was compacted away. */
export const firstOffsetOf = (fetched: Fetched): number =>
  'batch' in fetched ? fetched.batch.firstOffset : Number(fetched.offset);

const decompress = async (batch: RecordBatch): Promise<Buffer> => {
  const codec = CompressionCodecs[compressionOf(batch) as keyof typeof CompressionCodecs];
  return codec === undefined || batch.count === 0 ? batch.body : codec().decompress(batch.body);
};

/** @throws PinflowError `log_unavailable` for a batch that cannot be read */
export const recordsOf = async (partition: number, fetched: Fetched): Promise<readonly LogRecord[]> => {
  if (!('batch' in fetched)) return [toLogRecord(partition, fetched)];
  const { batch } = fetched;
  try {
    return decodeRecords(partition, batch, await decompress(batch));
  } catch (error) {
    const message = `the records at offset ${batch.firstOffset} of partition ${partition} cannot be read: ${messageOf(error)}. Trying again; if it stays so, the broker's disk is damaged`;
    throw new PinflowError('log_unavailable', message, { retryable: true, cause: error });
  }
};

/** Reads the fields of an answer one after the other. */
const createReader = (bytes: Buffer) => {
  let at = 0;
  const skipped = (length: number) => {
    at += length;
    return at - length;
  };
  const int16 = () => bytes.readInt16BE(skipped(2));
  const int32 = () => bytes.readInt32BE(skipped(4));
  const int64 = () => String(bytes.readBigInt64BE(skipped(8)));
  const part = (length: number) => bytes.subarray(at, skipped(length) + length);
  const array = <T>(read: () => T): T[] => Array.from({ length: Math.max(0, int32()) }, read);
  return { int16, int32, int64, part, array };
};

/**
 * An answer of version 11 (https://kafka.apache.org/protocol#The_Messages_Fetch), which is what kafkajs asks of all brokers in use.
 * @returns null when there are records of an older format in it
 */
const decodeAnswer = (bytes: Buffer) => {
  const { int16, int32, int64, part, array } = createReader(bytes);
  let isOlder = false;
  const partition = () => {
    const header = {
      partition: int32(),
      errorCode: int16(),
      highWatermark: int64(),
      lastStableOffset: int64(),
      lastStartOffset: int64(),
      abortedTransactions: array(() => ({ producerId: int64(), firstOffset: int64() })),
      preferredReadReplica: int32(),
    };
    const batches = readBatches(part(Math.max(0, int32())));
    isOlder ||= batches === null;
    return { ...header, messages: (batches ?? []).map(toFetched) };
  };
  const clientSideThrottleTime = int32();
  const errorCode = int16();
  const sessionId = int32();
  const responses = array(() => ({ topicName: part(int16()).toString(), partitions: array(partition) }));
  return isOlder ? null : { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
};

const decodeByKafkaJs = response.decode;

/** Tells kafkajs, whose tables of requests are one for the process. Idempotent. */
export const fetchBatches = (): void => {
  response.decode = async (bytes) => decodeAnswer(bytes) ?? decodeByKafkaJs(bytes);
};
