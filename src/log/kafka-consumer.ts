import type { EachBatchPayload, Consumer as KafkaJsConsumer } from 'kafkajs';
import type { PinflowError } from '../errors.ts';
import { atMost, sleep } from '../retry.ts';
import type { KafkaClient } from './kafka-client.ts';
import { type Fetched, firstOffsetOf, recordsOf } from './kafka-fetch.ts';
import { createMembership, type Membership } from './kafka-membership.ts';
import type { Pursuit } from './kafka-pursuit.ts';
import type { KafkaReader } from './kafka-reader.ts';
import type { TopicFacts } from './kafka-topic.ts';
import type { ConsumeOptions, Consumer, LogRecord } from './log.ts';
import { groupIdOf } from './names.ts';

/** A member that shows no life for this long loses its partitions, milliseconds; brokers allow 6,000 and more. */
const SESSION_TIMEOUT_MS = 10_000;
/** How often it shows life, and so how soon it hears that another member has come, milliseconds. */
const HEARTBEAT_MS = 1000;
/** Longest the broker holds a fetch back when there is nothing new; also what `close` waits for at most. Milliseconds. */
const FETCH_WAIT_MS = 250;
/**
 * Bytes fetched of one partition at a time; a larger batch still comes, alone. These are compressed bytes: what they become
 * in memory, for each partition, is several times as much.
 */
const FETCH_BYTES = 1024 * 1024;
/** Partitions handled at once. Their handlers wait for disks and networks most of the time. */
const PARTITIONS_AT_ONCE = 4;
/** Pause of a batch that may not be handled just now, so that fetching it again and again does not spin, milliseconds. */
const SKIP_MS = 50;
/** Waits between sessions with a broker that is away, milliseconds: they double from the first to the second. */
const RECONNECT_MS = 200;
const RECONNECT_MAX_MS = 5000;
/** What leaving the group may take, milliseconds; then its session timeout does it. */
const LEAVE_TIMEOUT_MS = 5000;

export type KafkaConsumerDeps = {
  readonly client: KafkaClient;
  readonly topic: Pursuit<TopicFacts>;
  readonly reader: KafkaReader;
};

/** Why a session ended: closed by us, a throw of the handler, or the broker. */
type End =
  | { readonly why: 'closed' }
  | { readonly why: 'handler'; readonly error: unknown }
  | { readonly why: 'broker'; readonly error: PinflowError };

type Session = {
  readonly membership: Membership;
  /** Resolves when the member has left and no call of the handler is under way. */
  readonly run: () => Promise<End>;
  readonly end: (end: End) => void;
};

/**
 * The records of a fetch from an offset on, in runs within both limits; a single larger record is a run of its own. Batches are
 * decompressed as they are come to, so that only the records of a run are in memory.
 */
async function* runsOf(
  partition: number,
  fetched: readonly Fetched[],
  fromOffset: number,
  { maxRecords, maxBytes }: ConsumeOptions,
): AsyncGenerator<readonly LogRecord[]> {
  let run: LogRecord[] = [];
  let bytes = 0;
  for (const batch of fetched) {
    for (const record of await recordsOf(partition, batch)) {
      if (record.offset < fromOffset) continue;
      const size = record.value.length;
      if (run.length > 0 && (run.length >= maxRecords || bytes + size > maxBytes)) {
        yield run;
        run = [];
        bytes = 0;
      }
      run.push(record);
      bytes += size;
    }
  }
  if (run.length > 0) yield run;
}

/** What kafkajs has of a fetch, and does not say in its types. */
type KafkaJsBatch = {
  /** What was asked for: a batch may come whole, from before it on. */
  readonly fetchedOffset: string;
  /** All that came: where the records of aborted transactions and the broker's own stood is no gap. */
  readonly rawMessages: readonly Fetched[];
  /** What is for us. */
  readonly messages: readonly Fetched[];
};

const fetchOptions = ({ group }: ConsumeOptions, topic: string) => ({
  groupId: groupIdOf(group, topic),
  sessionTimeout: SESSION_TIMEOUT_MS,
  heartbeatInterval: HEARTBEAT_MS,
  maxWaitTimeInMs: FETCH_WAIT_MS,
  maxBytesPerPartition: FETCH_BYTES,
  maxBytes: PARTITIONS_AT_ONCE * FETCH_BYTES,
  allowAutoTopicCreation: false,
  // A crash ends the session: we make a new one ourselves, and tell the handler in between.
  retry: { retries: 5, initialRetryTime: 100, maxRetryTime: 1000, restartOnFailure: async () => false },
});

/** Hands what was fetched to the handler, run by run, for as long as it is still wanted. */
const createDelivery = (membership: Membership, options: ConsumeOptions) => {
  const { handler } = options;
  return async ({ batch, resolveOffset, isStale }: EachBatchPayload): Promise<void> => {
    const { partition } = batch;
    const turn = await membership.takeTurn(partition);
    if (turn === null) return sleep(SKIP_MS);
    try {
      if (isStale()) return;
      const { fetchedOffset, rawMessages, messages } = batch as unknown as KafkaJsBatch;
      const fetchedFrom = Number(fetchedOffset);
      const [first] = rawMessages;
      if (first !== undefined) await membership.noteGap(partition, Math.max(firstOffsetOf(first), fetchedFrom));
      const highWatermark = Number(batch.highWatermark);
      const from = Math.max(turn.position(), fetchedFrom);
      for await (const records of runsOf(partition, messages, from, options)) {
        if (!turn.isValid()) return;
        const last = records.at(-1)?.offset ?? 0;
        turn.moveTo(last + 1);
        await handler.batch({ partition, records, highWatermark });
        if (!turn.isValid()) return;
        resolveOffset(String(last));
      }
      if (turn.isValid()) resolveOffset(batch.messages.at(-1)?.offset ?? batch.lastOffset());
    } finally {
      turn.end();
    }
  };
};

const createSession = ({ client, reader }: KafkaConsumerDeps, options: ConsumeOptions): Session => {
  const { topic, kafka } = client;
  const ended = Promise.withResolvers<End>();
  const end = (how: End) => ended.resolve(how);
  const consumer: KafkaJsConsumer = kafka.consumer(fetchOptions(options, topic));
  /** A throw counts also when the session is ending already. */
  let thrown: End | null = null;
  const failed = (error: unknown) => end({ why: 'broker', error: client.explain(error) });
  const broken = (error: unknown) => {
    thrown ??= { why: 'handler', error };
    end(thrown);
  };
  const membership = createMembership({ client, reader, consumer, options, failed, broken });
  const deliver = createDelivery(membership, options);

  const eachBatch = async (payload: EachBatchPayload) => {
    // While the handler works, so that a slow sink is not taken for a dead member.
    const beat = setInterval(() => void payload.heartbeat().catch(() => {}), HEARTBEAT_MS);
    try {
      await deliver(payload);
    } catch (error) {
      membership.stop();
      broken(error);
    } finally {
      clearInterval(beat);
    }
  };

  const start = async () => {
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: PARTITIONS_AT_ONCE,
      eachBatch,
    });
  };

  const run = async (): Promise<End> => {
    consumer.on('consumer.crash', ({ payload }) => failed(payload.error));
    const starting = start().catch(failed);
    const how = await ended.promise;
    membership.stop();
    await membership.settled();
    // A close gives the partitions back without a word; a broker that is away takes them from the handler.
    await membership.release(how.why === 'broker');
    const left = starting.then(() => consumer.disconnect()).catch(() => {});
    await atMost(left, LEAVE_TIMEOUT_MS);
    return thrown ?? how;
  };
  return { membership, run, end };
};

/**
 * A member of a consumer group on the broker. A broker that goes away does not end it: it reports, waits and joins again, and
 * the handler sees its partitions revoked and assigned anew.
 */
export const createKafkaConsumer = (deps: KafkaConsumerDeps, options: ConsumeOptions): Consumer => {
  const { client, topic } = deps;
  const closing = new AbortController();
  const done = Promise.withResolvers<void>();
  let session: Session | null = null;

  const runSession = async (): Promise<End> => {
    try {
      await topic.get();
    } catch (error) {
      return { why: 'broker', error: client.explain(error) };
    }
    if (closing.signal.aborted) return { why: 'closed' };
    session = createSession(deps, options);
    try {
      return await session.run();
    } catch (error) {
      return { why: 'handler', error };
    }
  };

  const run = async () => {
    for (let waitMs = RECONNECT_MS; !closing.signal.aborted; waitMs = Math.min(RECONNECT_MAX_MS, waitMs * 2)) {
      const how = await runSession();
      if (how.why === 'handler') throw how.error;
      if (how.why === 'closed') return;
      if (session?.membership.hasJoined() === true) waitMs = RECONNECT_MS;
      session = null;
      client.complain(how.error);
      await sleep(waitMs, closing.signal);
    }
  };

  const running = run().then(done.resolve, done.reject);

  return {
    done: done.promise,
    commit: async (partition, nextOffset) => {
      const { membership } = session ?? {};
      if (membership === undefined) throw client.fenced(options.group, partition);
      await membership.commit(partition, nextOffset);
    },
    seek: (partition, offset) => session?.membership.seek(partition, offset),
    close: async () => {
      closing.abort();
      session?.end({ why: 'closed' });
      await running;
    },
  };
};
