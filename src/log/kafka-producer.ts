import { CompressionTypes, type Producer } from 'kafkajs';
import { PinflowError } from '../errors.ts';
import type { Position } from '../pin/pin.ts';
import { atMost, withDeadline } from '../retry.ts';
import { createGroupCommit, sizeOf } from './group-commit.ts';
import type { KafkaClient } from './kafka-client.ts';
import { type Pursuit, pursue } from './kafka-pursuit.ts';
import { cutIntoSends, messagesOf, placePositions, type Send } from './kafka-sends.ts';
import type { TopicFacts } from './kafka-topic.ts';
import type { NewRecord } from './log.ts';

/** Most records in one request: encoding one holds the thread up for about 5 ms at most. */
const MAX_SEND_RECORDS = 2500;
/** Most bytes in one request, before compression. */
const MAX_SEND_BYTES = 1024 * 1024;
/** Requests under way at once, each by a producer of its own for its own partitions: one is encoded while one is acked. */
const LANES = 2;
/** Up to so many records go as one request by one lane: what a request costs beside its records would be twice the work. */
const ONE_LANE_RECORDS = 1000;
/** A group of calls fills the requests of all lanes. */
const MAX_GROUP_RECORDS = LANES * MAX_SEND_RECORDS;
const MAX_GROUP_BYTES = LANES * MAX_SEND_BYTES;
/** What busy callers wait for each other, milliseconds: a request costs the broker and us a millisecond, whatever it carries. */
const LINGER_MS = 3;
const LINGER_AFTER_CALLS = 16;
/** What Kafka's batch adds around records, at most; bytes. */
const BATCH_OVERHEAD_BYTES = 256;
/** Retries of a request whose partition has no leader just now: an election takes a second or two. */
const SEND_RETRY = { retries: 6, initialRetryTime: 100, maxRetryTime: 1000 } as const;
/** What leaving may take, milliseconds; a broker that is gone must not hold up a shutdown. */
const DISCONNECT_TIMEOUT_MS = 3000;

type Session = {
  readonly producers: readonly Producer[];
  readonly facts: TopicFacts;
  /** Requests kafkajs works on, those we no longer wait for included. */
  readonly underWay: Set<Promise<unknown>>;
};

export type KafkaProducer = {
  readonly append: (records: readonly NewRecord[]) => Promise<readonly Position[]>;
  readonly close: () => Promise<void>;
};

const disconnect = (producers: readonly Producer[]): Promise<void> =>
  atMost(Promise.allSettled(producers.map((producer) => producer.disconnect())), DISCONNECT_TIMEOUT_MS);

/** Not before kafkajs has given up its requests too: a retry of them would connect once more, and stay. */
const retire = async ({ producers, underWay }: Session): Promise<void> => {
  await Promise.allSettled(underWay);
  await disconnect(producers);
};

const connect = async ({ kafka }: KafkaClient, facts: TopicFacts): Promise<Session> => {
  const producers = Array.from({ length: LANES }, () =>
    kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false, retry: SEND_RETRY }),
  );
  try {
    await Promise.all(producers.map((producer) => producer.connect()));
  } catch (error) {
    void disconnect(producers);
    throw error;
  }
  return { producers, facts, underWay: new Set() };
};

/** Why one of the records is refused; null: none is. */
const tooLargeFor = ({ maxMessageBytes }: TopicFacts, topic: string, records: readonly NewRecord[]) => {
  const largest = maxMessageBytes - BATCH_OVERHEAD_BYTES;
  const tooLarge = records.find((record) => sizeOf(record) > largest);
  if (tooLarge === undefined) return null;
  return new PinflowError(
    'too_large',
    `a record of ${tooLarge.value.length} bytes is more than topic ${topic} takes: raise its max.message.bytes (${maxMessageBytes}), or lower MAX_PIN_BYTES.`,
  );
};

/** Gives each call its part of the positions. */
const deal = (
  calls: readonly (readonly NewRecord[])[],
  positions: readonly Position[],
): readonly (readonly Position[])[] => {
  let from = 0;
  return calls.map(({ length }) => {
    from += length;
    return positions.slice(from - length, from);
  });
};

/** Sends records over the lanes of a session. @throws what kafkajs throws, when no request is under way any more */
const createSender =
  ({ topic, config }: KafkaClient) =>
  async ({ producers, facts, underWay }: Session, records: readonly NewRecord[]): Promise<readonly Position[]> => {
    const deadline = performance.now() + config.REQUEST_TIMEOUT_MS;
    const positions: Position[] = new Array(records.length);

    const late = () =>
      new PinflowError(
        'log_unavailable',
        `the broker has not acknowledged within REQUEST_TIMEOUT_MS=${config.REQUEST_TIMEOUT_MS}; see KAFKA_BROKERS.`,
        { retryable: true },
      );
    const sendOne = async (producer: Producer, send: Send) => {
      const sending = producer.send({
        topic,
        acks: -1,
        compression: CompressionTypes.ZSTD,
        messages: messagesOf(send),
      });
      underWay.add(sending);
      const forget = () => underWay.delete(sending);
      sending.then(forget, forget);
      placePositions(send, await withDeadline(sending, deadline - performance.now(), late), positions);
    };

    const maxBytes = Math.min(MAX_SEND_BYTES, facts.maxMessageBytes - BATCH_OVERHEAD_BYTES);
    // A partition may change its lane from group to group, as a group begins when the one before is acked.
    const laneCount = records.length <= ONE_LANE_RECORDS ? 1 : LANES;
    const lanes = cutIntoSends(records, facts.partitions, laneCount, { maxRecords: MAX_SEND_RECORDS, maxBytes });
    const sent = await Promise.allSettled(
      lanes.map(async (sends, lane) => {
        for (const send of sends) await sendOne(producers[lane] as Producer, send);
      }),
    );
    const failed = sent.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return positions;
  };

/**
 * Idempotent producers that ack when all in-sync replicas have the records.
 *
 * Each has one request under way at a time, and after any failure all are replaced by ones with new producer ids. Both are
 * needed: kafkajs takes the sequence numbers of a failed request back though the broker may have stored it; other records
 * sent under these numbers would be taken for a repetition, acknowledged and dropped.
 */
export const createKafkaProducer = (client: KafkaClient, topic: Pursuit<TopicFacts>): KafkaProducer => {
  const sendAll = createSender(client);
  const sessions = pursue(async () => {
    const facts = await topic.get();
    return connect(client, facts).catch((error: unknown) => {
      throw client.explain(error);
    });
  }, client.complain);

  const commits = createGroupCommit({
    flush: async (calls) => {
      const session = await sessions.get();
      try {
        return deal(calls, await sendAll(session, calls.flat()));
      } catch (error) {
        sessions.renew(session);
        void retire(session);
        throw client.explain(error);
      }
    },
    maxBatchRecords: MAX_GROUP_RECORDS,
    maxBatchBytes: MAX_GROUP_BYTES,
    maxPendingBytes: client.config.MAX_PENDING_BYTES,
    lingerMs: LINGER_MS,
    lingerAfterCalls: LINGER_AFTER_CALLS,
    maxInFlight: 1,
  });

  const appendIn = ({ facts }: Session, records: readonly NewRecord[]) => {
    const tooLarge = tooLargeFor(facts, client.topic, records);
    return tooLarge === null ? commits.append(records) : Promise.reject(tooLarge);
  };

  return {
    append: (records) => {
      const session = sessions.peek();
      return session === null ? sessions.get().then((late) => appendIn(late, records)) : appendIn(session, records);
    },
    close: async () => {
      await commits.close();
      const session = await sessions.close();
      if (session !== null) await disconnect(session.producers);
    },
  };
};
