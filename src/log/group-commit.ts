import { PinflowError } from '../errors.ts';
import type { Position } from '../pin/pin.ts';
import type { NewRecord } from './log.ts';

type Records = readonly NewRecord[];
type Positions = readonly Position[];

export type GroupCommitOptions = {
  /**
   * Makes all calls of a group durable at once; answers one list of positions a call, in order. A throw fails all calls of
   * the group, and no other.
   */
  readonly flush: (calls: readonly Records[]) => readonly Positions[] | Promise<readonly Positions[]>;
  /** A group is closed at this many records, */
  readonly maxBatchRecords: number;
  /** or at this many bytes. One call is never split: a larger one is a group of its own. */
  readonly maxBatchBytes: number;
  /** Most bytes queued and being flushed. A single larger call is taken only when nothing else waits. */
  readonly maxPendingBytes: number;
  /** Longest the first call of a group waits for others, milliseconds; 0: only for what this turn of the event loop brings. */
  readonly lingerMs: number;
  /**
   * Waits only after a group of at least this many calls: a lone caller is not held up for others that do not come. Those who were
   * answered come back while others wait: without the wait two halves would take turns. (Default: 0)
   */
  readonly lingerAfterCalls?: number;
  /** Groups being flushed at once. 1 keeps the order of calls. */
  readonly maxInFlight: number;
};

export type GroupCommit = {
  /** @throws PinflowError `overloaded` when the bound is reached (nothing was queued); else whatever `flush` threw */
  readonly append: (records: Records) => Promise<Positions>;
  /** Bytes queued and being flushed. */
  readonly pendingBytes: () => number;
  /** Flushes what waits; later appends throw `log_unavailable`. Idempotent. */
  readonly close: () => Promise<void>;
};

type Call = {
  readonly records: Records;
  readonly bytes: number;
  readonly resolve: (positions: Positions) => void;
  readonly reject: (error: unknown) => void;
};

/** What a record costs while it waits, near enough: its bytes and the objects around them. */
const RECORD_OVERHEAD_BYTES = 64;

/** Bytes of a record as the bounds count them. */
export const sizeOf = (record: NewRecord): number => {
  let bytes = record.value.length + record.key.length + RECORD_OVERHEAD_BYTES;
  if (record.headers !== undefined) {
    for (const name in record.headers) bytes += name.length + (record.headers[name]?.length ?? 0);
  }
  return bytes;
};

export const sizeOfAll = (records: Records): number => {
  let bytes = 0;
  for (const record of records) bytes += sizeOf(record);
  return bytes;
};

/** Calls in the order they came, handed out in groups within the bounds. */
const createQueue = ({ maxBatchRecords, maxBatchBytes }: GroupCommitOptions) => {
  let calls: Call[] = [];
  let records = 0;
  let bytes = 0;
  const count = (call: Call, sign: 1 | -1) => {
    records += sign * call.records.length;
    bytes += sign * call.bytes;
  };
  return {
    isEmpty: () => calls.length === 0,
    /** There is enough for a group: nothing is won by waiting longer. */
    isFull: () => records >= maxBatchRecords || bytes >= maxBatchBytes,
    push: (call: Call) => {
      calls.push(call);
      count(call, 1);
    },
    /** At least one call. */
    takeGroup: (): readonly Call[] => {
      let end = 0;
      let groupRecords = 0;
      let groupBytes = 0;
      for (const call of calls) {
        groupRecords += call.records.length;
        groupBytes += call.bytes;
        if (end > 0 && (groupRecords > maxBatchRecords || groupBytes > maxBatchBytes)) break;
        end += 1;
      }
      const group = calls.slice(0, end);
      calls = calls.slice(end);
      for (const call of group) count(call, -1);
      return group;
    },
  };
};

/** Turns many concurrent `append` calls into few flushes: one fsync, or one request to the broker, serves them all. */
export const createGroupCommit = (options: GroupCommitOptions): GroupCommit => {
  const { flush, maxPendingBytes, lingerMs, lingerAfterCalls = 0, maxInFlight } = options;
  const queue = createQueue(options);
  const inFlight = new Set<Promise<void>>();
  let pending = 0;
  let lastCalls = 0;
  let closed = false;
  let linger: Timer | null = null;
  let due: ReturnType<typeof setImmediate> | null = null;

  const flushGroup = async (group: readonly Call[]) => {
    lastCalls = group.length;
    try {
      const results = await flush(group.map((call) => call.records));
      group.forEach((call, i) => {
        call.resolve(results[i] as Positions);
      });
    } catch (error) {
      for (const call of group) call.reject(error);
    } finally {
      for (const call of group) pending -= call.bytes;
    }
  };

  const pump = () => {
    if (linger !== null) clearTimeout(linger);
    if (due !== null) clearImmediate(due);
    linger = null;
    due = null;
    while (inFlight.size < maxInFlight && !queue.isEmpty()) {
      const flushing = flushGroup(queue.takeGroup()).then(() => {
        inFlight.delete(flushing);
        if (!queue.isEmpty()) schedule();
      });
      inFlight.add(flushing);
    }
  };

  const schedule = () => {
    if (inFlight.size >= maxInFlight || due !== null) return;
    if (lingerMs === 0 || lastCalls < lingerAfterCalls || queue.isFull()) due = setImmediate(pump);
    else linger ??= setTimeout(pump, lingerMs);
  };

  const refusal = (bytes: number): PinflowError | null => {
    if (closed) return new PinflowError('log_unavailable', 'the log is closed: no more records are taken.');
    if (pending === 0 || pending + bytes <= maxPendingBytes) return null;
    return new PinflowError(
      'overloaded',
      `${pending} bytes wait to become durable and ${bytes} more would pass the bound of ${maxPendingBytes}: send again later.`,
      { retryable: true },
    );
  };

  // One promise a call, here and on the way here: each more is felt where a request carries one pin.
  const append = (records: Records): Promise<Positions> => {
    const bytes = sizeOfAll(records);
    const refused = refusal(bytes);
    if (refused !== null) return Promise.reject(refused);
    if (records.length === 0) return Promise.resolve([]);
    pending += bytes;
    return new Promise((resolve, reject) => {
      queue.push({ records, bytes, resolve, reject });
      schedule();
    });
  };

  const close = async () => {
    closed = true;
    while (!queue.isEmpty() || inFlight.size > 0) {
      pump();
      await Promise.all(inFlight);
    }
  };

  return { append, pendingBytes: () => pending, close };
};
