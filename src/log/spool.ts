import { join } from 'node:path';
import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { withDeadline } from '../retry.ts';
import { createBreaker } from './breaker.ts';
import { createGroupCommit, sizeOfAll } from './group-commit.ts';
import type { Inlet, InletState, Receipt } from './inlet.ts';
import type { NewRecord, PinLog } from './log.ts';
import { createForwarder } from './spool-forwarder.ts';
import { openSpoolStore, type SpoolStore } from './spool-store.ts';

export type SpoolOptions = {
  /** Folder of the file, which must be there; one process owns it (the edge's lock on DATA_DIR sees to that). */
  readonly dir: string;
  /** Most bytes of records in the spool. The file does not shrink on the disk: freed pages are used again. */
  readonly maxBytes: number;
  /** Longest an append waits for the broker, milliseconds. */
  readonly deadlineMs: number;
  readonly logger: Logger;
  readonly metrics?: Pick<Metrics, 'spoolBytes' | 'spoolLimitBytes' | 'spoolRecords' | 'spoolPins'>;
};

/**
 * Waits between probes of a broker that fails, milliseconds: they double from the first to the second. The first is past a
 * leader's election more often than not; the last is what pins wait in the spool, at most, when the broker is back.
 */
const PROBE_BASE_MS = 250;
const PROBE_MAX_MS = 2000;

/** One commit to the spool, as to the embedded log: see `sqlite.ts`. */
const MAX_BATCH_RECORDS = 5000;
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
const LINGER_MS = 1;
const LINGER_AFTER_CALLS = 16;

/** What another attempt may mend. A log that has too much waiting already says so to the client instead. */
const isOutage = (error: unknown): boolean => isPinflowError(error) && error.retryable && error.code !== 'overloaded';

/** Appends to the store within the bound, many calls in one commit. */
const createIntake = (store: SpoolStore, maxBytes: number, onSpooled: (records: number) => void) => {
  const commits = createGroupCommit({
    flush: (calls) => {
      const records = calls.flat();
      store.append(records);
      onSpooled(records.length);
      return calls.map(() => []);
    },
    maxBatchRecords: MAX_BATCH_RECORDS,
    maxBatchBytes: MAX_BATCH_BYTES,
    maxPendingBytes: maxBytes,
    lingerMs: LINGER_MS,
    lingerAfterCalls: LINGER_AFTER_CALLS,
    maxInFlight: 1,
  });
  return {
    append: async (records: readonly NewRecord[]): Promise<Receipt> => {
      const held = store.totals().bytes + commits.pendingBytes();
      const bytes = sizeOfAll(records);
      if (held + bytes > maxBytes) {
        throw new PinflowError(
          'overloaded',
          `the broker fails and the spool is full: it holds ${held} bytes, ${bytes} more would pass SPOOL_MAX_BYTES=${maxBytes}. Bring the broker of KAFKA_BROKERS back; send again later.`,
          { retryable: true },
        );
      }
      await commits.append(records);
      return { durability: 'spool', positions: null };
    },
    close: commits.close,
  };
};

/** Says what the spool does: gauges and counters, and one line each time it begins and ends to be needed. */
const createReport = ({ logger, metrics, maxBytes }: SpoolOptions, store: SpoolStore, topic: string) => {
  const show = () => {
    const { records, bytes } = store.totals();
    metrics?.spoolRecords.set(records);
    metrics?.spoolBytes.set(bytes);
  };
  metrics?.spoolLimitBytes.set(maxBytes);
  show();
  let outage: string | null = null;
  let isExplained = false;
  return {
    moved: (outcome: 'spooled' | 'forwarded' | 'refused', records: number) => {
      metrics?.spoolPins.inc({ outcome }, records);
      show();
    },
    onOpen: (error: unknown) => {
      outage = messageOf(error);
      isExplained = false;
      logger.warn({ topic, error: outage }, 'the broker fails: pins are kept in the spool until it is back');
    },
    // A request gives up at its deadline, often before the reason is known; a probe waits for it.
    onFailedProbe: (error: unknown) => {
      const reason = messageOf(error);
      if (!isExplained && reason !== outage) logger.warn({ topic, error: reason }, 'the broker still fails');
      isExplained = true;
      outage = reason;
    },
    onClose: () => {
      outage = null;
      logger.info({ topic, ...store.totals() }, 'the broker is back: the spool is being forwarded');
    },
    state: (): InletState => ({ outage, spooled: store.totals().records }),
  };
};

/**
 * The way into a log on a broker that may fail: pins that it does not take in time go to `spool-<topic>.db`, fsynced, and
 * from there into the log when it is back. Each record is in the log at least once: a broker that took it but answered
 * late or not at all has it twice, and so has one whose forwarder was killed; the sinks fold both into one version, by
 * its id and `received_at`. A record larger than the topic takes is refused while the broker is there, but cannot be
 * known for it while it is not: it then stays in the spool, with a line in the log.
 *
 * The spool keeps its own order; new pins do not wait for it, as both views order the versions of an id by `received_at`: an
 * older one that comes later loses. What `close` leaves in the file goes with the next start.
 * @throws PinflowError `config` when the file is damaged or foreign, `disk_full`, `log_unavailable`
 */
export const withSpool = async (
  log: Pick<PinLog, 'append' | 'durability' | 'topic'>,
  options: SpoolOptions,
): Promise<Inlet> => {
  const { dir, maxBytes, deadlineMs, logger } = options;
  const store = await openSpoolStore(join(dir, `spool-${log.topic}.db`));
  const report = createReport(options, store, log.topic);
  const breaker = createBreaker({ baseMs: PROBE_BASE_MS, maxMs: PROBE_MAX_MS, ...report });
  const forwarder = createForwarder({ log, store, breaker, deadlineMs, logger, onMoved: report.moved });
  const intake = createIntake(store, maxBytes, (records) => {
    report.moved('spooled', records);
    forwarder.wake();
  });
  /** Appends under way. */
  let running = 0;
  let idle = () => {};
  let closing: Promise<void> | null = null;

  const late = () =>
    new PinflowError('timeout', `the broker has not acknowledged within ${deadlineMs} ms`, { retryable: true });

  const ended = () => {
    running--;
    if (running === 0) idle();
  };

  /** What goes past the log, which failed or may not be asked. */
  const spool = (records: readonly NewRecord[]): Promise<Receipt> => intake.append(records).finally(ended);

  // One promise a call and no frame that waits: where a request carries one pin each more is felt.
  const append = (records: readonly NewRecord[]): Promise<Receipt> => {
    if (closing !== null) return Promise.reject(new PinflowError('log_unavailable', 'the spool is closed.'));
    // The forwarder probes, at nobody's cost; only where it has nothing to send a request must.
    const pass = forwarder.isIdle() ? breaker.probe() : breaker.pass();
    running++;
    if (pass === null) return spool(records);
    return withDeadline(log.append(records), deadlineMs, late).then(
      (positions) => {
        pass.succeeded();
        ended();
        return { durability: log.durability, positions };
      },
      (error: unknown) => {
        if (isOutage(error)) {
          pass.failed(error);
          return spool(records);
        }
        pass.undecided();
        ended();
        throw error;
      },
    );
  };

  const close = async () => {
    if (running > 0)
      await new Promise<void>((resolve) => {
        idle = resolve;
      });
    await forwarder.close();
    await intake.close();
    store.close();
  };

  const state = (): InletState => {
    const now = report.state();
    // Nothing waits and a probe is due: only the next pin can tell, so the broker's last failure must not keep pins away.
    return now.spooled === 0 && breaker.waitMs() === 0 ? { ...now, outage: null } : now;
  };

  return {
    append,
    state,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
};
