import type { Logger } from '../logger.ts';
import type { ConsumeOptions, PartitionState } from './log.ts';
import type { GroupPlan, GroupStore } from './sqlite-groups.ts';
import type { RecordStore } from './sqlite-records.ts';

/** A partition this member works on. */
export type Claim = {
  readonly partition: number;
  /** Rises with each owner of the partition: what was started under one epoch is not committed under another. */
  readonly epoch: number;
  /** Next offset to deliver. */
  position: number;
  /** Where `seek` wants to go on, or null. */
  target: number | null;
  /** A call of the handler is under way: no other may start. */
  busy: boolean;
  /** `give`: it goes to another member when the batch is done. `lost`: another may have it already. */
  fate: 'keep' | 'give' | 'lost';
};

export type TurnsDeps = {
  readonly topic: string;
  readonly records: RecordStore;
  readonly groups: Pick<GroupStore, 'committed'>;
  readonly logger: Logger;
  /** Lets the group have a claim that was to be given. */
  readonly release: (claim: Claim) => void;
  readonly failed: (error: unknown) => void;
  /** A call of the handler has ended, well or not. */
  readonly ended: () => void;
};

/** Where a partition starts: as asked, where that is in the log; else, as Kafka does, at the earliest record. */
const createStarts = ({ topic, records, logger }: TurnsDeps, group: string) => {
  const stateOf = (partition: number): PartitionState =>
    records.states().find((state) => state.partition === partition) ?? { partition, start: 0, end: 0 };
  return {
    stateOf,
    within: (partition: number, wanted: number | null | undefined): number => {
      const { start, end } = stateOf(partition);
      if (wanted === null || wanted === undefined) return start;
      if (wanted >= start && wanted <= end) return wanted;
      logger.warn(
        { topic, group, partition, wanted, start, end },
        'the log has no such offset: going on at the earliest',
      );
      return start;
    },
  };
};

/** The calls of the handler, one at a time for each partition. */
const createCalls = (deps: TurnsDeps, { group, handler, maxRecords, maxBytes }: ConsumeOptions) => {
  const { records, groups } = deps;
  const { stateOf, within } = createStarts(deps, group);
  return {
    begin: async (fresh: readonly Claim[]) => {
      const starts = await handler.assigned(fresh.map((claim) => claim.partition));
      const committed = groups.committed(group);
      for (const claim of fresh) {
        const { partition } = claim;
        claim.position = within(partition, starts.get(partition) ?? committed.get(partition));
      }
    },
    deliver: async (claim: Claim) => {
      const { partition } = claim;
      const batch = records.read({ partition, offset: claim.position }, maxRecords, maxBytes);
      const last = batch.at(-1);
      // Retention can have deleted all that was to come: on from what is kept.
      claim.position = last === undefined ? Math.max(claim.position, stateOf(partition).start) : last.offset + 1;
      if (last === undefined) return;
      await handler.batch({ partition, records: batch, highWatermark: stateOf(partition).end });
    },
    end: (claim: Claim) => handler.revoked([claim.partition]),
    applySeek: (claim: Claim) => {
      if (claim.target === null) return;
      claim.position = within(claim.partition, claim.target);
      claim.target = null;
    },
  };
};

/** The partitions of one member and what is done with each: begin, deliver batch by batch, let go. */
export const createTurns = (deps: TurnsDeps, options: ConsumeOptions) => {
  const calls = createCalls(deps, options);
  const claims = new Map<number, Claim>();
  const running = new Set<Promise<void>>();

  /** Runs one call of the handler; meanwhile its claims are busy. */
  const start = (involved: readonly Claim[], work: () => Promise<void>) => {
    for (const claim of involved) claim.busy = true;
    const turn = work()
      .catch(deps.failed)
      .then(() => {
        for (const claim of involved) claim.busy = false;
        running.delete(turn);
        deps.ended();
      });
    running.add(turn);
  };

  const letGo = async (claim: Claim) => {
    await calls.end(claim);
    if (claim.fate === 'give') deps.release(claim);
    claims.delete(claim.partition);
  };

  return {
    claims: claims as ReadonlyMap<number, Claim>,
    isBusy: () => running.size > 0,
    /** Forgets all claims at once; calls under way end by themselves. */
    clear: () => claims.clear(),
    /** Marks what is lost or to be given, begins what is new. */
    follow: (plan: GroupPlan) => {
      for (const claim of claims.values()) {
        if (plan.mine.get(claim.partition) !== claim.epoch) claim.fate = 'lost';
        else if (plan.give.includes(claim.partition)) claim.fate = 'give';
      }
      const fresh = [...plan.mine]
        .filter(([partition]) => !claims.has(partition))
        .map(
          ([partition, epoch]): Claim => ({ partition, epoch, position: 0, target: null, busy: false, fate: 'keep' }),
        );
      for (const claim of fresh) claims.set(claim.partition, claim);
      if (fresh.length > 0) start(fresh, () => calls.begin(fresh));
    },
    /** Starts every turn there is work for. @returns whether there was any */
    startAll: (): boolean => {
      const ends = new Map(deps.records.states().map(({ partition, end }) => [partition, end]));
      let started = false;
      for (const claim of claims.values()) {
        if (claim.busy) continue;
        calls.applySeek(claim);
        if (claim.fate !== 'keep') start([claim], () => letGo(claim));
        else if (claim.position < (ends.get(claim.partition) ?? 0)) start([claim], () => calls.deliver(claim));
        else continue;
        started = true;
      }
      return started;
    },
  };
};
