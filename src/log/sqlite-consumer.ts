import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { ConsumeOptions, Consumer, PartitionState } from './log.ts';
import type { GroupPlan, GroupStore } from './sqlite-groups.ts';
import { planGroup } from './sqlite-groups.ts';
import type { RecordStore } from './sqlite-records.ts';

export type ConsumerDeps = {
  readonly topic: string;
  readonly records: RecordStore;
  readonly groups: GroupStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly sessionTimeoutMs: number;
};

/** A partition this member works on. */
type Claim = {
  readonly partition: number;
  /** Rises with each owner of the partition: what was started under one epoch is not committed under another. */
  readonly epoch: number;
  /** Next offset to deliver. */
  position: number;
  /** Where `seek` wants to go on, or null. */
  target: number | null;
  /** A call of the handler is under way: no other may start. */
  busy: boolean;
  /** `give`: it goes to another member when the batch is done. `lost`: another has it already. */
  fate: 'keep' | 'give' | 'lost';
};

/** Looks for new records this often while there are some, milliseconds; doubles up to the idle interval when there are none. */
const BUSY_POLL_MS = 5;
const IDLE_POLL_MS = 50;
/** Looks at the group's state this often, milliseconds; a plain read. */
const GROUP_CHECK_MS = 100;
/** Shows life this often, milliseconds, or three times a session if that is shorter. */
const MAX_HEARTBEAT_MS = 1000;

/** A sleep that `wake` ends early; a wake while nobody sleeps ends the next sleep. */
const createAlarm = () => {
  let ring: (() => void) | null = null;
  let rung = false;
  return {
    wake: () => {
      rung = true;
      ring?.();
    },
    sleep: async (ms: number) => {
      if (!rung) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          ring = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      ring = null;
      rung = false;
      // Handlers that never leave the microtask queue would else starve timers, other partitions and the heartbeat.
      await new Promise(setImmediate);
    },
  };
};

/** This member's part in its group: when to look, when to show life, what is its. */
const createMembership = ({ groups, clock, sessionTimeoutMs }: ConsumerDeps, group: string) => {
  const me = `${process.pid}-${randomUUID()}`;
  const heartbeatMs = Math.min(MAX_HEARTBEAT_MS, sessionTimeoutMs / 3);
  let nextCheck = 0;
  let nextBeat = 0;
  return {
    /** The plan as it stands, or null when it is not yet time to look again. */
    check: (held: ReadonlySet<number>, mayTake: boolean): GroupPlan | null => {
      const now = performance.now();
      if (now < nextCheck) return null;
      nextCheck = now + GROUP_CHECK_MS;
      if (now < nextBeat) {
        const plan = planGroup(groups.state(group), me, clock.now(), sessionTimeoutMs, held);
        if (plan.dead.length === 0 && (plan.take.length === 0 || !mayTake)) return plan;
      }
      nextBeat = now + heartbeatMs;
      return groups.beat(group, me, clock.now(), held, mayTake);
    },
    checkSoon: () => {
      nextCheck = 0;
    },
    commit: (claim: Claim, nextOffset: number) => groups.commit(group, me, claim.partition, claim.epoch, nextOffset),
    release: (claim: Claim) => groups.release(group, me, claim.partition, claim.epoch),
    leave: () => groups.leave(group, me),
  };
};

/** Applies a plan to the claims: marks what is lost or to be given, answers what is new. */
const applyPlan = (claims: Map<number, Claim>, plan: GroupPlan): readonly Claim[] => {
  const fresh: Claim[] = [];
  for (const claim of claims.values()) {
    if (plan.mine.get(claim.partition) !== claim.epoch) claim.fate = 'lost';
    else if (plan.give.includes(claim.partition)) claim.fate = 'give';
  }
  for (const [partition, epoch] of plan.mine) {
    if (claims.has(partition)) continue;
    const claim: Claim = { partition, epoch, position: 0, target: null, busy: false, fate: 'keep' };
    claims.set(partition, claim);
    fresh.push(claim);
  }
  return fresh;
};

/** The calls of the handler for one claim or a few; each ends with the claim not busy. */
const createTurns = ({ topic, records, groups, logger }: ConsumerDeps, options: ConsumeOptions) => {
  const { group, handler, maxRecords, maxBytes } = options;

  /** Where to start: as asked, where that still is in the log; else, as Kafka does, at the earliest record. */
  const within = (wanted: number, { partition, start, end }: PartitionState): number => {
    if (wanted >= start && wanted <= end) return wanted;
    logger.warn({ topic, group, partition, wanted, start, end }, 'offset is not in the log: going on at the earliest');
    return start;
  };

  const stateOf = (partition: number) =>
    records.states().find((state) => state.partition === partition) ?? { partition, start: 0, end: 0 };

  return {
    begin: async (fresh: readonly Claim[]) => {
      const starts = await handler.assigned(fresh.map((claim) => claim.partition));
      const committed = groups.committed(group);
      for (const claim of fresh) {
        const wanted = starts.get(claim.partition) ?? committed.get(claim.partition);
        const state = stateOf(claim.partition);
        claim.position = wanted === undefined ? state.start : within(wanted, state);
      }
    },
    deliver: async (claim: Claim) => {
      const { partition } = claim;
      const batch = records.read({ partition, offset: claim.position }, maxRecords, maxBytes);
      const last = batch.at(-1);
      if (last === undefined) return;
      claim.position = last.offset + 1;
      const highWatermark = Math.max(stateOf(partition).end, last.offset + 1);
      await handler.batch({ partition, records: batch, highWatermark });
    },
    end: (claim: Claim) => handler.revoked([claim.partition]),
    applySeek: (claim: Claim) => {
      if (claim.target === null) return;
      claim.position = within(claim.target, stateOf(claim.partition));
      claim.target = null;
    },
  };
};

/**
 * A member of a consumer group over the embedded log. It polls, as the appender may be another thread or process. Partitions
 * take turns in one loop; heartbeats go on while batches run, so a slow sink does not lose its partitions.
 */
export const createConsumer = (deps: ConsumerDeps, options: ConsumeOptions): Consumer => {
  const { topic, records, logger } = deps;
  const { group } = options;
  const membership = createMembership(deps, group);
  const turns = createTurns(deps, options);
  const alarm = createAlarm();
  const claims = new Map<number, Claim>();
  const running = new Set<Promise<void>>();
  const done = Promise.withResolvers<void>();
  let state: 'running' | 'closing' | 'stopped' = 'running';

  const leave = () => {
    state = 'stopped';
    claims.clear();
    try {
      membership.leave();
    } catch (error) {
      logger.warn(
        { topic, group, error: messageOf(error) },
        'could not leave the group: its partitions wait for the session to end',
      );
    }
  };

  const fail = (error: unknown) => {
    if (state === 'stopped') return;
    leave();
    done.reject(error);
    alarm.wake();
  };

  /** Runs one call of the handler; meanwhile its claims are busy. */
  const start = (involved: readonly Claim[], work: () => Promise<void>) => {
    for (const claim of involved) claim.busy = true;
    const turn = work()
      .catch(fail)
      .then(() => {
        for (const claim of involved) claim.busy = false;
        running.delete(turn);
        alarm.wake();
      });
    running.add(turn);
  };

  const letGo = async (claim: Claim) => {
    await turns.end(claim);
    if (claim.fate === 'give' && state !== 'stopped') membership.release(claim);
    claims.delete(claim.partition);
    membership.checkSoon();
  };

  /** Starts what can be started. @returns whether anything was */
  const startTurns = (): boolean => {
    let started = false;
    const ends = new Map(records.states().map(({ partition, end }) => [partition, end]));
    for (const claim of claims.values()) {
      if (claim.busy) continue;
      turns.applySeek(claim);
      if (claim.fate !== 'keep') start([claim], () => letGo(claim));
      else if (claim.position < (ends.get(claim.partition) ?? 0)) start([claim], () => turns.deliver(claim));
      else continue;
      started = true;
    }
    return started;
  };

  const step = (): boolean => {
    const isOpen = state === 'running';
    const plan = membership.check(new Set(claims.keys()), isOpen);
    const fresh = plan === null || !isOpen ? [] : applyPlan(claims, plan);
    if (fresh.length > 0) start(fresh, () => turns.begin(fresh));
    return isOpen && startTurns();
  };

  const tryStep = (): boolean => {
    try {
      return step();
    } catch (error) {
      if (!isPinflowError(error) || !error.retryable) throw error;
      logger.warn({ topic, group, error: error.message }, 'the log did not answer: trying again');
      return false;
    }
  };

  const run = async () => {
    let pollMs = BUSY_POLL_MS;
    while (state === 'running' || (state === 'closing' && running.size > 0)) {
      pollMs = tryStep() ? BUSY_POLL_MS : Math.min(IDLE_POLL_MS, pollMs * 2);
      await alarm.sleep(pollMs);
    }
    if (state === 'stopped') return;
    leave();
    done.resolve();
  };

  // Not before the caller has the consumer: its handler may well use it.
  const loop = Promise.resolve().then(run).catch(fail);

  return {
    done: done.promise,
    commit: async (partition, nextOffset) => {
      const claim = claims.get(partition);
      if (claim !== undefined && claim.fate !== 'lost' && membership.commit(claim, nextOffset)) return;
      if (claim !== undefined) claim.fate = 'lost';
      throw new PinflowError(
        'fenced',
        `${group} cannot commit ${nextOffset} of ${topic}/${partition}: the partition is not this member's any more.`,
      );
    },
    seek: (partition, offset) => {
      const claim = claims.get(partition);
      if (claim !== undefined) claim.target = offset;
      alarm.wake();
    },
    close: async () => {
      if (state === 'running') state = 'closing';
      alarm.wake();
      await loop;
    },
  };
};
