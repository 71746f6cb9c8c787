import type { ArchiveEntry } from '../blob/archive.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { PinRow } from '../db/pin-store/pin-store.ts';
import type { Inlet } from '../log/inlet.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import type { Position } from '../pin/pin.ts';

/** One part of the program and whether it can do its work now. */
export type PartState = { readonly part: string; readonly ready: boolean; readonly reason?: string };

/** What one store says of one pin: its row, that it has none (yet), or that it cannot be asked now. */
export type View<T> =
  | { readonly state: 'present'; readonly row: T }
  | { readonly state: 'absent' }
  | { readonly state: 'unavailable'; readonly reason: string };

/** Where one pin stands, all stores asked at once. */
export type Journey = {
  /** Lower case. */
  readonly uniqueId: string;
  /** Its newest record in the log: among those the speed view has not handled yet, or else the one the views show. */
  readonly log: View<Position>;
  readonly speed: View<PinRow>;
  readonly batch: readonly { readonly store: string; readonly view: View<PinRow> }[];
  /** The archive object that holds the newest position any view knows. */
  readonly archive: View<Pick<ArchiveEntry, 'key' | 'partition' | 'firstOffset' | 'lastOffset'>>;
};

/** One box of the pipeline as it is drawn. */
export type Stage = {
  readonly name: 'edge' | 'log' | 'archive' | 'clean' | 'stream';
  /** Which engine stands behind it, such as `kafka` or `sqlite`. */
  readonly engine: string;
  /** Pins handled so far; rises. The page makes rates of it. */
  readonly pins: number;
  /** Records not yet handled; null where that has no meaning. */
  readonly lag: number | null;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly reason?: string;
};

export type Status = {
  readonly stages: readonly Stage[];
  readonly totals: { readonly rejected: number; readonly errors: number; readonly deadLetters: number };
};

export type RecentError = {
  readonly uniqueId: string;
  /** RFC 3339. */
  readonly receivedAt: string;
  readonly category: string | null;
  readonly title: string | null;
  readonly errorFields: readonly string[];
};

export type RecentRun = {
  readonly id: number;
  readonly status: string;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly objects: number;
  readonly pins: number;
  readonly errors: number;
  readonly rejects: number;
  readonly error: string | null;
};

export type EdgeLimits = Pick<
  Config,
  'MAX_PIN_BYTES' | 'MAX_BODY_BYTES' | 'MAX_BULK_PINS' | 'MAX_PENDING_BYTES' | 'REQUEST_TIMEOUT_MS' | 'API_KEYS'
>;

/** Everything the edge needs, composed by the entry. */
export type EdgeDeps = {
  readonly inlet: Pick<Inlet, 'append'>;
  /** Rising microseconds since the Unix epoch, see `risingMicros`. */
  readonly stamp: () => number;
  readonly clock: Clock;
  readonly limits: EdgeLimits;
  readonly metrics: Metrics;
  /** The merged Prometheus page of all threads. */
  readonly metricsText: () => Promise<string>;
  readonly readiness: () => readonly PartState[] | Promise<readonly PartState[]>;
  readonly journey: (uniqueId: string) => Promise<Journey>;
  readonly status: () => Status | Promise<Status>;
  /** Newest first, about 20. */
  readonly recentErrors: () => Promise<readonly RecentError[]>;
  /** Newest first, about 10. */
  readonly recentRuns: () => Promise<readonly RecentRun[]>;
  readonly logger: Logger;
};

/** What the server hands each request beside the request itself; absent in tests without a port. */
export type EdgeBindings = {
  /** Lifts the idle limit of one connection, for streams. */
  readonly keepOpen?: (request: Request) => void;
  /** Aborted when the server drains: streams end. */
  readonly draining?: AbortSignal;
};
