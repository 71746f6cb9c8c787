import type { Clock } from './clock.ts';
import { createOldestPending } from './db/postgres/oldest-pending.ts';
import type { Database } from './db/postgres/open.ts';
import { messageOf } from './errors.ts';
import { followLetters } from './log/dlq.ts';
import type { PartitionState, PinLog } from './log/log.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { sleep } from './retry.ts';

/** What no worker counts as it goes, or could not tell when it is dead: asked of the engines every so often. */
export type GaugeDeps = {
  readonly log: Pick<PinLog, 'partitions' | 'committed' | 'read'>;
  /** Opened when it is first asked: a broker that is away must not hold up the start. */
  readonly openDeadLetters: () => Promise<Pick<PinLog, 'partitions' | 'read' | 'close'>>;
  readonly database: Pick<Database, 'db'>;
  readonly groups: readonly string[];
  /** Names of the pin stores. */
  readonly stores: readonly string[];
  readonly metrics: Pick<Metrics, 'consumerLagSeconds' | 'openDeadLetters' | 'cleanOldestPending'>;
  readonly clock: Clock;
  readonly logger: Logger;
};

export type Gauges = {
  /** One look at everything. Never rejects: what cannot be asked has no value until it can. */
  readonly sample: () => Promise<void>;
  readonly start: () => void;
  /** Waits for a look under way, and closes what was opened. Idempotent. */
  readonly stop: () => Promise<void>;
};

/** Milliseconds between looks: as often as Prometheus usually asks, and nothing an engine feels. */
const SAMPLE_MS = 5000;

/** When the oldest record was appended that the group has not committed, milliseconds since the Unix epoch; null: none. */
const oldestUncommitted = async (log: GaugeDeps['log'], group: string, states: readonly PartitionState[]) => {
  const committed = await log.committed(group);
  const behind = states
    .map(({ partition, start, end }) => ({ partition, offset: Math.max(start, committed.get(partition) ?? 0), end }))
    .filter(({ offset, end }) => offset < end);
  const oldest = await Promise.all(behind.map((from) => log.read(from, 1)));
  const times = oldest.flatMap(([record]) => record?.timestamp ?? []);
  return times.length === 0 ? null : Math.min(...times);
};

const sampleLag = async ({ log, groups, metrics, clock }: GaugeDeps) => {
  const states = await log.partitions();
  for (const group of groups) {
    const since = await oldestUncommitted(log, group, states);
    metrics.consumerLagSeconds.set({ group }, since === null ? 0 : Math.max(0, clock.now() - since) / 1000);
  }
};

const createPendingAges = ({ database, stores, metrics }: GaugeDeps) => {
  const pendingSeconds = createOldestPending(database);
  return async () => {
    for (const store of stores) metrics.cleanOldestPending.set({ store }, await pendingSeconds(store));
  };
};

const createLetterCount = ({ openDeadLetters, metrics }: GaugeDeps) => {
  let opened: { readonly log: Awaited<ReturnType<GaugeDeps['openDeadLetters']>>; readonly ids: () => Promise<number> };
  return {
    sample: async () => {
      if (opened === undefined) {
        const log = await openDeadLetters();
        const follow = followLetters(log, () => null);
        opened = { log, ids: async () => (await follow()).size };
      }
      metrics.openDeadLetters.set(await opened.ids());
    },
    close: async () => opened?.log.close(),
  };
};

export const createGauges = (deps: GaugeDeps): Gauges => {
  const { metrics, logger } = deps;
  const letters = createLetterCount(deps);
  const samplePending = createPendingAges(deps);
  const stopping = new AbortController();
  let running: Promise<void> | null = null;

  /** An old value would be taken for the present one. */
  const orNothing = async (gauge: { readonly reset: () => void }, look: () => Promise<void>) => {
    try {
      await look();
    } catch (error) {
      gauge.reset();
      logger.debug({ error: messageOf(error) }, 'a gauge has no value now');
    }
  };

  const sample = async () => {
    await Promise.all([
      orNothing(metrics.consumerLagSeconds, () => sampleLag(deps)),
      orNothing(metrics.cleanOldestPending, samplePending),
      orNothing(metrics.openDeadLetters, letters.sample),
    ]);
  };

  const loop = async () => {
    while (!stopping.signal.aborted) {
      await sample();
      await sleep(SAMPLE_MS, stopping.signal);
    }
    await letters.close();
  };

  return {
    sample,
    start: () => {
      running ??= loop();
    },
    stop: async () => {
      stopping.abort();
      await (running ?? letters.close());
    },
  };
};
