import type { PinStore } from '../../src/db/pin-store/pin-store.ts';
import type { PinLog } from '../../src/log/log.ts';
import type { Objects } from './memory-blob.ts';
import type { Network, Trace } from './network.ts';
import type { Sabotage } from './ports.ts';
import type { SimPostgres } from './postgres.ts';
import type { Random } from './random.ts';
import type { Scenario } from './scenario.ts';
import type { SharedFiles } from './shared-files.ts';
import type { World } from './virtual-time.ts';

/** A pin the edge has promised to keep. */
export type Ack = {
  readonly uniqueId: string;
  /** No other request has this title. */
  readonly title: string;
  /** As answered: `<partition>/<offset>`, or null from a spool. */
  readonly position: string | null;
};

/** All of one seed: what is durable, and what happened. */
export type Sim = {
  readonly scenario: Scenario;
  readonly world: World;
  readonly random: Random;
  readonly network: Network;
  readonly trace: Trace;
  readonly sabotage: Sabotage | null;
  readonly dir: string;
  readonly files: SharedFiles;
  readonly spoolDir: (edge: number) => string;
  readonly objects: Objects;
  readonly pinStores: readonly PinStore[];
  readonly postgres: SimPostgres | null;
  /** Sees the log as it is. */
  readonly observer: PinLog;
  readonly deadLetters: PinLog;
  readonly acks: Ack[];
  readonly nextIncarnation: () => number;
  /** An invariant does not hold. The run goes on to its end. */
  readonly fail: (problem: string) => void;
};
