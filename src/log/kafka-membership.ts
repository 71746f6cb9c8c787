import type { ConsumerGroupJoinEvent, Consumer as KafkaJsConsumer } from 'kafkajs';
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

/** What the parts of a membership share. */
type State = {
  readonly claims: Map<number, Claim>;
  /** Turns under way. */
  readonly busy: Set<Promise<void>>;
  /** Partitions of the last assignment. */
  mine: ReadonlySet<number>;
  memberId: string;
  /** Counts the rebalances of this session. */
  generation: number;
  stopped: boolean;
  /** Settles when the handler knows of the last rebalance. */
  told: Promise<void>;
};

const seekTo = ({ client, consumer }: Deps, { partition, position }: Claim) =>
  consumer.seek({ topic: client.topic, partition, offset: String(position) });

/** Follows the group, and tells the handler of one rebalance after the other. */
const followGroup = (deps: Deps, state: State) => {
  const { client, consumer, options, failed, broken } = deps;
  const { claims } = state;
  const { handler } = options;
  const startsOf = createStarts(deps);

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
        if (!state.stopped) seekTo(deps, claim);
      }
    } catch (error) {
      state.stopped = true;
      failed(error);
    }
  };

  const tell = async () => {
    await Promise.all(state.busy);
    if (state.stopped) return;
    await revoke([...claims.values()].filter((claim) => claim.isLost));
    await assign([...state.mine].filter((partition) => !claims.has(partition)));
  };

  /** At once, before anything of the new generation is fetched: what is lost is lost, what is kept goes on where it was. */
  const joined = ({ payload }: ConsumerGroupJoinEvent) => {
    // A new id means that the group went on without us for a while, and others had our partitions.
    const isNewMember = payload.memberId !== state.memberId;
    state.memberId = payload.memberId;
    state.generation += 1;
    state.mine = new Set(payload.memberAssignment[client.topic] ?? []);
    for (const claim of claims.values()) {
      claim.isLost ||= isNewMember || !state.mine.has(claim.partition);
      // kafkajs would go back to the committed offset.
      if (!claim.isLost) seekTo(deps, claim);
    }
    state.told = state.told.then(tell).catch((error: unknown) => {
      state.stopped = true;
      broken(error);
    });
  };

  consumer.on('consumer.group_join', joined);
  return { revoke };
};

const createCommit = ({ client, consumer, options }: Deps, state: State) => {
  const { topic } = client;
  const made = new Set<string>();
  // The only sign that a commit was made: kafkajs also resolves when its consumer has crashed.
  consumer.on('consumer.commit_offsets', ({ payload }) => {
    for (const { partitions } of payload.topics) {
      for (const { partition, offset } of partitions) made.add(`${partition}/${offset}`);
    }
  });

  const commitOnce = async (claim: Claim, nextOffset: number): Promise<boolean> => {
    const under = state.generation;
    const { partition } = claim;
    try {
      await consumer.commitOffsets([{ topic, partition, offset: String(nextOffset) }]);
      return made.delete(`${partition}/${nextOffset}`);
    } catch (error) {
      if (!FENCED.has(brokerErrorOf(error) ?? '')) throw client.explain(error);
      // No rebalance came between: we are out of date, and will join anew. Until then the partition counts as lost.
      if (state.generation === under) claim.isLost = true;
      return false;
    }
  };

  return async (partition: number, nextOffset: number): Promise<void> => {
    const claim = state.claims.get(partition);
    // The same claim to the end: a partition lost and won again is not what the caller has read.
    for (let attempt = 1; claim !== undefined && attempt <= COMMIT_ATTEMPTS; attempt++) {
      if (claim.isLost || state.claims.get(partition) !== claim) break;
      if (await commitOnce(claim, nextOffset)) return;
    }
    throw client.fenced(options.group, partition);
  };
};

const beginTurn = (state: State, claim: Claim): Turn => {
  const { generation } = state;
  const { seeks } = claim;
  const turn = Promise.withResolvers<void>();
  state.busy.add(turn.promise);
  return {
    position: () => claim.position,
    moveTo: (offset) => {
      claim.position = offset;
    },
    isValid: () => !claim.isLost && !state.stopped && state.generation === generation && claim.seeks === seeks,
    end: () => {
      state.busy.delete(turn.promise);
      turn.resolve();
    },
  };
};

const createGapNotes =
  ({ client, reader, options }: Deps, { claims }: State): Membership['noteGap'] =>
  async (partition, firstOffset) => {
    const wanted = claims.get(partition)?.position ?? firstOffset;
    if (firstOffset <= wanted) return;
    const states = await reader.partitions().catch(() => []);
    const now = states.find((p) => p.partition === partition);
    // Else the gap is one of the broker's control records; or the broker is away, and the warning is not worth the session.
    if ((now?.start ?? 0) <= wanted) return;
    client.logger.warn(
      { topic: client.topic, group: options.group, partition, from: wanted, to: firstOffset - 1 },
      'these offsets left the log before the group had read them: retention is shorter than its lag',
    );
  };

export const createMembership = (deps: Deps): Membership => {
  const state: State = {
    claims: new Map(),
    busy: new Set(),
    mine: new Set(),
    memberId: '',
    generation: 0,
    stopped: false,
    told: Promise.resolve(),
  };
  const { claims } = state;
  const { revoke } = followGroup(deps, state);
  return {
    hasJoined: () => state.generation > 0,
    takeTurn: async (partition) => {
      const under = state.generation;
      await state.told;
      const claim = claims.get(partition);
      const isOurs = claim !== undefined && !claim.isLost && !state.stopped && state.generation === under;
      return isOurs ? beginTurn(state, claim) : null;
    },
    noteGap: createGapNotes(deps, state),
    commit: createCommit(deps, state),
    seek: (partition, offset) => {
      const claim = claims.get(partition);
      if (claim === undefined || claim.isLost) return;
      claim.position = offset;
      claim.seeks += 1;
      seekTo(deps, claim);
    },
    stop: () => {
      state.stopped = true;
    },
    settled: async () => {
      await state.told;
      await Promise.all(state.busy);
    },
    release: async (tellHandler) => {
      if (tellHandler) await revoke([...claims.values()]);
      claims.clear();
    },
  };
};
