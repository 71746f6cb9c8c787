import type { Admin, Cluster } from 'kafkajs';
import type { Position } from '../pin/pin.ts';
import { retry } from '../retry.ts';
import { createCluster, createLink, type KafkaClient } from './kafka-client.ts';
import { brokerErrorOf, isPassing } from './kafka-errors.ts';
import { type Fetched, recordsOf } from './kafka-fetch.ts';
import { ensureTopic, type TopicFacts } from './kafka-topic.ts';
import type { LogRecord, PartitionState } from './log.ts';
import { groupIdOf } from './names.ts';

/** Bytes of one fetch, at most; the broker answers at least one batch, however large. */
const MAX_FETCH_BYTES = 4 * 1024 * 1024;
/**
 * Bytes asked for a record that is wanted, about what a pin takes: whoever wants one, as the look at the lag does every few
 * seconds on the edge's thread, must not have thousands fetched and decoded.
 */
const RECORD_BYTES = 1024;
/** Longest the broker holds a fetch back when it has nothing, milliseconds. */
const FETCH_WAIT_MS = 100;

/** For what passes by itself, such as the first moments of a new topic, which kafkajs retries in some calls and not in others. */
const PASSING = { attempts: 10, baseMs: 50, maxMs: 500 } as const;

type FetchAnswer = {
  readonly responses: readonly {
    readonly partitions: readonly {
      readonly highWatermark: string;
      readonly messages: readonly Fetched[];
    }[];
  }[];
};

type Fetch = { readonly messages: readonly Fetched[]; readonly end: number };

/** Everything that is asked of the broker outside appending and consuming. */
export type KafkaReader = {
  readonly ensureTopic: (partitions: number) => Promise<TopicFacts>;
  readonly partitions: () => Promise<readonly PartitionState[]>;
  readonly committed: (group: string) => Promise<ReadonlyMap<number, number>>;
  readonly read: (from: Position, limit: number) => Promise<readonly LogRecord[]>;
  readonly close: () => Promise<void>;
};

/** @param wanted records: about so many come */
const fetchFrom = async (
  cluster: Cluster,
  topic: string,
  { partition, offset }: Position,
  wanted: number,
): Promise<Fetch | null> => {
  const maxBytes = Math.min(MAX_FETCH_BYTES, wanted * RECORD_BYTES);
  await cluster.addTargetTopic(topic);
  const [nodeId] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]));
  if (nodeId === undefined) return null;
  const broker = await cluster.findBroker({ nodeId });
  const answer = (await broker.fetch({
    maxWaitTime: FETCH_WAIT_MS,
    minBytes: 1,
    maxBytes,
    topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes }] }],
  })) as FetchAnswer;
  const fetched = answer.responses[0]?.partitions[0];
  return fetched === undefined ? null : { messages: fetched.messages, end: Number(fetched.highWatermark) };
};

/** Up to `limit` records from an offset that is still kept. */
const readFrom = async (
  cluster: Cluster,
  topic: string,
  from: Position,
  limit: number,
): Promise<readonly LogRecord[]> => {
  const records: LogRecord[] = [];
  let { offset } = from;
  for (;;) {
    const fetched = await fetchFrom(cluster, topic, { ...from, offset }, limit - records.length);
    for (const message of fetched?.messages ?? []) {
      // A batch comes whole, from before the offset on; control records are the broker's own.
      if (Number(message.offset) < offset) continue;
      if (!message.isControlRecord && records.length < limit) {
        const wanted = (await recordsOf(from.partition, message)).filter((record) => record.offset >= offset);
        records.push(...wanted.slice(0, limit - records.length));
      }
      offset = Number(message.offset) + 1;
    }
    const isAtEnd = fetched === null || offset >= fetched.end || fetched.messages.length === 0;
    if (isAtEnd || records.length >= limit) return records;
  }
};

export const createKafkaReader = (client: KafkaClient): KafkaReader => {
  const { kafka, topic } = client;
  const admins = createLink<Admin>(
    async () => {
      const admin = kafka.admin();
      await admin.connect();
      return admin;
    },
    (admin) => admin.disconnect(),
  );
  const clusters = createLink<Cluster>(
    async () => {
      const cluster = createCluster(kafka);
      await cluster.connect();
      return cluster;
    },
    (cluster) => cluster.disconnect(),
  );

  const ask = <T>(work: (connected: Admin) => Promise<T>): Promise<T> => patiently(() => admins.use(work));
  const look = <T>(work: (connected: Cluster) => Promise<T>): Promise<T> => patiently(() => clusters.use(work));

  const patiently = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await retry(call, { ...PASSING, retryable: isPassing });
    } catch (error) {
      throw client.explain(error);
    }
  };

  const partitions = () =>
    ask(async (admin): Promise<readonly PartitionState[]> => {
      const offsets = await admin.fetchTopicOffsets(topic);
      return offsets
        .map(({ partition, low, high }) => ({ partition, start: Number(low), end: Number(high) }))
        .sort((a, b) => a.partition - b.partition);
    });

  const fetchAll = (from: Position, limit: number) => look((cluster) => readFrom(cluster, topic, from, limit));

  const read = async (from: Position, limit: number): Promise<readonly LogRecord[]> => {
    try {
      return await fetchAll(from, limit);
    } catch (error) {
      if (brokerErrorOf(error) !== 'OFFSET_OUT_OF_RANGE') throw error;
    }
    // Before what is kept: from the first that is. After the end: nothing.
    const state = (await partitions()).find(({ partition }) => partition === from.partition);
    if (state === undefined || from.offset >= state.start) return [];
    return fetchAll({ ...from, offset: state.start }, limit);
  };

  return {
    ensureTopic: (count) => ask((admin) => ensureTopic(admin, { ...client, partitions: count })),
    partitions,
    committed: (group) =>
      ask(async (admin) => {
        const [offsets] = await admin.fetchOffsets({ groupId: groupIdOf(group, topic), topics: [topic] });
        const committed = (offsets?.partitions ?? []).map(
          ({ partition, offset }) => [partition, Number(offset)] as const,
        );
        // Negative: none, or the mark of kafkajs for "from the earliest".
        return new Map(committed.filter(([, offset]) => offset >= 0));
      }),
    read,
    close: async () => {
      await Promise.all([admins.close(), clusters.close()]);
    },
  };
};
