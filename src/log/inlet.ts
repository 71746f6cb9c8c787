import type { Position } from '../pin/pin.ts';
import type { NewRecord, PinLog } from './log.ts';

/** What became of an append: `X-Pin-Durability` and `X-Pin-Position` are made of it. */
export type Receipt = {
  /** Where the records are on disk. */
  readonly durability: PinLog['durability'] | 'spool';
  /** One a record, in the order given; null from the spool, as the log places them later. */
  readonly positions: readonly Position[] | null;
};

/** Whether the inlet is as it should be. */
export type InletState = {
  /** Why pins go to the spool now; null: they go to the log. */
  readonly outage: string | null;
  /** Pins in the spool: durable here, and not in the log yet. */
  readonly spooled: number;
};

/** The edge's way into the log: straight, or past a broker that fails by way of the spool. */
export type Inlet = {
  /**
   * Resolves when all of `records` are durable, in the log or on the way to it. @throws PinflowError what the log's
   * `append` throws; `overloaded` also when the spool is full
   */
  readonly append: (records: readonly NewRecord[]) => Promise<Receipt>;
  readonly state: () => InletState;
  /** Flushes what waits. The log stays open. Idempotent. */
  readonly close: () => Promise<void>;
};

/** Straight into `log`. */
export const straightInlet = ({ append, durability }: Pick<PinLog, 'append' | 'durability'>): Inlet => ({
  append: async (records) => ({ durability, positions: await append(records) }),
  state: () => ({ outage: null, spooled: 0 }),
  close: async () => {},
});
