import type { ArchiveEntry } from '../blob/archive.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { PinRow, QueryResult } from '../db/pin-store/pin-store.ts';
import type { ErrorQuery } from '../db/postgres/error-pins.ts';
import type { DeadLetter } from '../log/dlq.ts';
import type { Inlet } from '../log/inlet.ts';
import type { PinLog } from '../log/log.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import type { Position } from '../pin/pin.ts';
import type { Tracing } from '../tracing/tracing.ts';

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
  /** Age of the oldest of them, seconds; null where nobody looked yet. */
  readonly lagSeconds: number | null;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly reason?: string;
  /** Its workers run in other processes, if anywhere: this one knows no counts of them. */
  readonly elsewhere?: boolean;
};

/** Observations by bucket since the start, each bucket for itself; one more than bounds: what is above the last. */
export type Buckets = { readonly bounds: readonly number[]; readonly counts: readonly number[] };

export type Status = {
  readonly stages: readonly Stage[];
  readonly totals: {
    readonly rejected: number;
    readonly errors: number;
    readonly deadLetters: number;
    /** Pins in the spool now. */
    readonly spooled: number;
  };
  /** Seconds from handing pins to the log to their being durable. */
  readonly durableSeconds: Buckets;
  /** Records in a micro-batch. */
  readonly microBatchPins: Buckets;
  /** Fields found missing after cleaning, by field; rises. */
  readonly errorFields: Readonly<Record<string, number>>;
};

/** The counts of one moment, small enough to keep some hundred of. All but `lag` rise; a fall is a restart. */
export type Sample = {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly pins: Readonly<Partial<Record<Stage['name'], number>>>;
  readonly lag: Readonly<Partial<Record<Stage['name'], number | null>>>;
  readonly rejected: number;
  readonly errors: number;
  /** Counts of the buckets of `durableSeconds` and `microBatchPins`. */
  readonly durable: readonly number[];
  readonly batches: readonly number[];
  readonly fields: Readonly<Record<string, number>>;
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

/** One archive object on its way into one batch view, in one run. */
export type RunObject = {
  readonly key: string;
  readonly store: string;
  readonly status: string;
  readonly pins: number;
  readonly errors: number;
  readonly rejects: number;
  /** Why it was rejected, or left to the next run. */
  readonly reason: string | null;
};

/** A run with what it went through, in the order it was done. */
export type RunDetails = {
  readonly run: RecentRun & { readonly reason: string; readonly bytes: number };
  readonly objects: readonly RunObject[];
  /** More objects than are listed. */
  readonly truncated: boolean;
};

/** Which view a question goes to. */
export type QueryView = 'speed' | 'batch';

/** Open letters of the dead letter queue, oldest first. */
export type LetterList = {
  readonly total: number;
  readonly letters: readonly (Pick<DeadLetter, 'stage' | 'reason' | 'at' | 'attempts'> & { readonly id: string })[];
};

export type EdgeLimits = Pick<
  Config,
  | 'MAX_PIN_BYTES'
  | 'MAX_BODY_BYTES'
  | 'MAX_BULK_PINS'
  | 'MAX_PENDING_BYTES'
  | 'REQUEST_TIMEOUT_MS'
  | 'FEEDBACK_WAIT_MS'
  | 'API_KEYS'
>;

/** The dead letter queue. */
export type Letters = {
  readonly list: () => Promise<LetterList>;
  readonly show: (id: string) => Promise<DeadLetter | null>;
  /** Sends letters again, or closes them for good. @returns how many were open. @throws PinflowError `invalid_pin` when one is still no pin */
  readonly resolve: (ids: readonly string[], action: 'retry' | 'drop') => Promise<number>;
};

/** Everything the edge needs, composed by the entry. */
export type EdgeDeps = {
  readonly inlet: Pick<Inlet, 'append'>;
  /** Rising microseconds since the Unix epoch, see `risingMicros`. */
  readonly stamp: () => number;
  readonly clock: Clock;
  readonly limits: EdgeLimits;
  readonly metrics: Metrics;
  /** Off when absent. */
  readonly tracing?: Tracing;
  /** The merged Prometheus page of all threads. */
  readonly metricsText: () => Promise<string>;
  readonly readiness: () => readonly PartState[] | Promise<readonly PartState[]>;
  readonly journey: (uniqueId: string) => Promise<Journey>;
  readonly status: () => Status | Promise<Status>;
  /** Newest first, about 20. */
  readonly recentErrors: () => Promise<readonly RecentError[]>;
  /** Erroneous pins of the speed view, newest first. @throws PinflowError `postgres_unavailable` */
  readonly errorPins: (query: ErrorQuery) => Promise<readonly RecentError[]>;
  readonly feedback: {
    /** Next offset of each partition the speed view has not handled yet. @throws PinflowError `postgres_unavailable` */
    readonly handled: () => Promise<ReadonlyMap<number, number>>;
    /** What stands in the log there. */
    readonly read: PinLog['read'];
  };
  /** Newest first, about 60. */
  readonly recentRuns: () => Promise<readonly RecentRun[]>;
  /** What the dashboard's charts begin with, oldest first. */
  readonly history: () => readonly Sample[];
  /** One run, or null. */
  readonly run: (id: number) => Promise<RunDetails | null>;
  readonly letters: Letters;
  /**
   * One read-only statement over a view, bounded in rows and time.
   * @throws PinflowError `query` when the statement is wrong, reads no view or takes too long
   */
  readonly query: (view: QueryView, sql: string) => Promise<QueryResult>;
  readonly logger: Logger;
};

/** What the server hands each request beside the request itself; absent in tests without a port. */
export type EdgeBindings = {
  /** Lifts the idle limit of one connection, for streams. */
  readonly keepOpen?: (request: Request) => void;
  /** Aborted when the server drains: streams end. */
  readonly draining?: AbortSignal;
};
