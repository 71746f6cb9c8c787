import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { ConsumeOptions, Consumer } from './log.ts';
import { type GroupPlan, type GroupStore, planGroup } from './sqlite-groups.ts';
import type { RecordStore } from './sqlite-records.ts';
import { type Claim, createTurns } from './sqlite-turns.ts';

export type ConsumerDeps = {
  readonly topic: string;
  readonly records: RecordStore;
  readonly groups: GroupStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly sessionTimeoutMs: number;
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
const createMembership = ({ topic, groups, clock, logger, sessionTimeoutMs }: ConsumerDeps, group: string) => {
  const me = `${process.pid}-${randomUUID()}`;
  const heartbeatMs = Math.min(MAX_HEARTBEAT_MS, sessionTimeoutMs / 3);
  let nextCheck = 0;
  let nextBeat = 0;
  return {
    /**
     * The plan as it stands, or null when it is not yet time to look again.
     * @param held partitions that are worked on
     */
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
    commit: (claim: Claim, nextOffset: number) => groups.commit(group, me, claim.partition, claim.epoch, nextOffset),
    release: (claim: Claim) => groups.release(group, me, claim.partition, claim.epoch),
    leave: () => {
      try {
        groups.leave(group, me);
      } catch (error) {
        const reason = messageOf(error);
        logger.warn({ topic, group, reason }, 'could not leave the group: its partitions wait for the session to end');
      }
    },
  };
};

/**
 * A member of a consumer group over the embedded log. It polls, as the appender may be another thread or process. Partitions
 * take turns in one loop; heartbeats go on while batches run, so a slow sink does not lose its partitions.
 */
export const createConsumer = (deps: ConsumerDeps, options: ConsumeOptions): Consumer => {
  const { topic, logger } = deps;
  const { group } = options;
  const membership = createMembership(deps, group);
  const alarm = createAlarm();
  const done = Promise.withResolvers<void>();
  let state: 'running' | 'closing' | 'stopped' = 'running';

  const leave = () => {
    state = 'stopped';
    turns.clear();
    membership.leave();
  };
  const failed = (error: unknown) => {
    if (state === 'stopped') return;
    leave();
    done.reject(error);
  };
  const turns = createTurns({ ...deps, release: membership.release, failed, ended: alarm.wake }, options);

  const step = (): boolean => {
    const isOpen = state === 'running';
    const plan = membership.check(new Set(turns.claims.keys()), isOpen);
    if (!isOpen) return false;
    if (plan !== null) turns.follow(plan);
    return turns.startAll();
  };

  const tryStep = (): boolean => {
    try {
      return step();
    } catch (error) {
      if (!isPinflowError(error) || !error.retryable) throw error;
      logger.warn({ topic, group, reason: error.message }, 'the log did not answer: trying again');
      return false;
    }
  };

  const run = async () => {
    let pollMs = BUSY_POLL_MS;
    while (state === 'running' || (state === 'closing' && turns.isBusy())) {
      pollMs = tryStep() ? BUSY_POLL_MS : Math.min(IDLE_POLL_MS, pollMs * 2);
      await alarm.sleep(pollMs);
    }
    if (state === 'stopped') return;
    leave();
    done.resolve();
  };

  // Not before the caller has the consumer: its handler may well use it.
  const loop = Promise.resolve().then(run).catch(failed);

  return {
    done: done.promise,
    commit: async (partition, nextOffset) => {
      const claim = turns.claims.get(partition);
      if (claim !== undefined && claim.fate !== 'lost' && membership.commit(claim, nextOffset)) return;
      if (claim !== undefined) claim.fate = 'lost';
      throw new PinflowError(
        'fenced',
        `${group} cannot commit ${nextOffset} of ${topic}/${partition}: the partition is not this member's any more.`,
      );
    },
    seek: (partition, offset) => {
      const claim = turns.claims.get(partition);
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
