import type { ConsumerGroupJoinEvent, Consumer as KafkaJsConsumer } from 'kafkajs';
import { PinflowError } from '../errors.ts';
import type { KafkaClient } from './kafka-client.ts';
import { brokerErrorOf } from './kafka-errors.ts';
import type { KafkaReader } from './kafka-reader.ts';
import type { ConsumeOptions, PartitionState } from './log.ts';

/** The broker's words for "this member's generation is over". */
const FENCED: ReadonlySet<string> = new Set([
  'ILLEGAL_GENERATION',
  'UNKNOWN_MEMBER_ID',
  'REBALANCE_IN_PROGRESS',
  'FENCED_INSTANCE_ID',
]);
/** A commit that crosses a rebalance is sent again under the new generation, at most this often. */
const COMMIT_ATTEMPTS = 3;

/** A partition the handler was told of. */
type Claim = {
  readonly partition: number;
  /** Next offset to deliver. */
  position: number;
  /** Rises with each seek: what was fetched before is not delivered after. */
  seeks: number;
  /** No longer ours, though the handler has not heard of it yet. */
  isLost: boolean;
};

/** The right to hand one batch of a partition to the handler. */
export type Turn = {
  readonly position: () => number;
  readonly moveTo: (offset: number) => void;
  /** Still ours, and nobody has sought elsewhere. */
  readonly isValid: () => boolean;
  readonly end: () => void;
};

/** This member's part in its group: which partitions are its, from where, and what it may commit. */
export type Membership = {
  readonly hasJoined: () => boolean;
  /** Waits until the handler knows of the last rebalance. Null: the partition is not to be handled now. */
  readonly takeTurn: (partition: number) => Promise<Turn | null>;
  /** Warns when records that were next have left the log. @param firstOffset of what was fetched instead */
  readonly noteGap: (partition: number, firstOffset: number) => Promise<void>;
  readonly commit: (partition: number, nextOffset: number) => Promise<void>;
  readonly seek: (partition: number, offset: number) => void;
  /** No turn begins after this. */
  readonly stop: () => void;
  /** Resolves when no call of the handler is under way. */
  readonly settled: () => Promise<void>;
  /** Lets go of all partitions. @param tellHandler that they are revoked */
  readonly release: (tellHandler: boolean) => Promise<void>;
};

type Deps = {
  readonly client: KafkaClient;
  readonly reader: KafkaReader;
  readonly consumer: KafkaJsConsumer;
  readonly options: ConsumeOptions;
  /** The broker failed us: the session ends, and another begins. */
  readonly failed: (error: unknown) => void;
  /** The handler threw. */
  readonly broken: (error: unknown) => void;
};

/** Offsets where a partition can be read: what was asked for, if it is still there; else, with a warning, the earliest. */
const createStarts = ({ client, reader, options }: Deps) => {
  const within = (wanted: number, { partition, start, end }: PartitionState): number => {
    if (wanted >= start && wanted <= end) return wanted;
    const { topic, logger } = client;
    logger.warn(
      { topic, group: options.group, partition, wanted, start, end },
      'offset is not in the log: going on at the earliest',
    );
    return start;
  };
  return async (asked: ReadonlyMap<number, number | null>): Promise<ReadonlyMap<number, number>> => {
    const [states, committed] = await Promise.all([reader.partitions(), reader.committed(options.group)]);
    const starts = states.map((state) => {
      const wanted = asked.get(state.partition) ?? committed.get(state.partition);
      return [state.partition, wanted === undefined ? state.start : within(wanted, state)] as const;
    });
    return new Map(starts);
  };
};

export const createMembership = (deps: Deps): Membership => {
  const { client, reader, consumer, options } = deps;
  const { topic, logger } = client;
  const { handler, group } = options;
  const startsOf = createStarts(deps);
  const claims = new Map<number, Claim>();
  const busy = new Set<Promise<void>>();
  const committed = new Set<string>();
  let mine: ReadonlySet<number> = new Set();
  let memberId = '';
  let generation = 0;
  let stopped = false;
  /** Tells the handler of one rebalance after the other. */
  let told: Promise<void> = Promise.resolve();

  const seekTo = (claim: Claim) => consumer.seek({ topic, partition: claim.partition, offset: String(claim.position) });

  const revoke = async (lost: readonly Claim[]) => {
    for (const claim of lost) claims.delete(claim.partition);
    if (lost.length > 0) await handler.revoked(lost.map((claim) => claim.partition));
  };

  const assign = async (partitions: readonly number[]) => {
    if (partitions.length === 0) return;
    const asked = await handler.assigned(partitions);
    const fresh = partitions.map((partition): Claim => ({ partition, position: 0, seeks: 0, isLost: false }));
    // From here on the handler has them, and must hear of it when the broker fails us below.
    for (const claim of fresh) claims.set(claim.partition, claim);
    try {
      const starts = await startsOf(asked);
      for (const claim of fresh) {
        claim.position = starts.get(claim.partition) ?? 0;
        if (!stopped) seekTo(claim);
      }
    } catch (error) {
      stopped = true;
      deps.failed(error);
    }
  };

  const tell = async () => {
    await Promise.all(busy);
    if (stopped) return;
    await revoke([...claims.values()].filter((claim) => claim.isLost));
    await assign([...mine].filter((partition) => !claims.has(partition)));
  };

  /** At once, before anything of the new generation is fetched: what is lost is lost, what is kept goes on where it was. */
  const joined = ({ payload }: ConsumerGroupJoinEvent) => {
    // A new id means that the group went on without us for a while, and others had our partitions.
    const isNewMember = payload.memberId !== memberId;
    memberId = payload.memberId;
    generation += 1;
    mine = new Set(payload.memberAssignment[topic] ?? []);
    for (const claim of claims.values()) {
      claim.isLost ||= isNewMember || !mine.has(claim.partition);
      // kafkajs would go back to the committed offset.
      if (!claim.isLost) seekTo(claim);
    }
    told = told.then(tell).catch((error: unknown) => {
      stopped = true;
      deps.broken(error);
    });
  };
  consumer.on('consumer.group_join', joined);
  // The only sign that a commit was made: kafkajs also resolves when its consumer has crashed.
  consumer.on('consumer.commit_offsets', ({ payload }) => {
    for (const { partitions } of payload.topics) {
      for (const { partition, offset } of partitions) committed.add(`${partition}/${offset}`);
    }
  });

  const commitOnce = async (partition: number, nextOffset: number): Promise<boolean> => {
    const under = generation;
    try {
      await consumer.commitOffsets([{ topic, partition, offset: String(nextOffset) }]);
      return committed.delete(`${partition}/${nextOffset}`);
    } catch (error) {
      if (!FENCED.has(brokerErrorOf(error) ?? '')) throw client.explain(error);
      // Nothing came between: we are out of date, and will join anew. Until then the partition counts as lost.
      const claim = claims.get(partition);
      if (generation === under && claim !== undefined) claim.isLost = true;
      return false;
    }
  };

  return {
    hasJoined: () => generation > 0,
    takeTurn: async (partition) => {
      const under = generation;
      await told;
      const claim = claims.get(partition);
      if (claim === undefined || claim.isLost || stopped || generation !== under) return null;
      const { seeks } = claim;
      const turn = Promise.withResolvers<void>();
      busy.add(turn.promise);
      return {
        position: () => claim.position,
        moveTo: (offset) => {
          claim.position = offset;
        },
        isValid: () => !claim.isLost && !stopped && generation === under && claim.seeks === seeks,
        end: () => {
          busy.delete(turn.promise);
          turn.resolve();
        },
      };
    },
    noteGap: async (partition, firstOffset) => {
      const wanted = claims.get(partition)?.position ?? firstOffset;
      if (firstOffset <= wanted) return;
      const state = (await reader.partitions()).find((p) => p.partition === partition);
      // Else the gap is one of the broker's control records.
      if ((state?.start ?? 0) <= wanted) return;
      logger.warn(
        { topic, group, partition, from: wanted, to: firstOffset - 1 },
        'these offsets left the log before the group had read them: retention is shorter than its lag',
      );
    },
    commit: async (partition, nextOffset) => {
      for (let attempt = 1; attempt <= COMMIT_ATTEMPTS; attempt++) {
        const claim = claims.get(partition);
        if (claim === undefined || claim.isLost) break;
        if (await commitOnce(partition, nextOffset)) return;
      }
      throw client.fenced(group, partition);
    },
    seek: (partition, offset) => {
      const claim = claims.get(partition);
      if (claim === undefined || claim.isLost) return;
      claim.position = offset;
      claim.seeks += 1;
      seekTo(claim);
    },
    stop: () => {
      stopped = true;
    },
    settled: async () => {
      await told;
      await Promise.all(busy);
    },
    release: async (tellHandler) => {
      if (tellHandler) await revoke([...claims.values()]);
      claims.clear();
    },
  };
};
