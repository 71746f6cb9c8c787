import { isPinflowError, messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { retry, sleep, withDeadline } from '../retry.ts';
import type { Breaker } from './breaker.ts';
import type { PinLog } from './log.ts';
import type { SpooledRecord, SpoolStore } from './spool-store.ts';

export type ForwarderOptions = {
  readonly log: Pick<PinLog, 'append' | 'topic'>;
  readonly store: SpoolStore;
  readonly breaker: Breaker;
  /** A batch that took longer does not speak for the broker, milliseconds. */
  readonly deadlineMs: number;
  readonly logger: Logger;
  /** Told of records that have left the spool, or that stay there because the broker will not have them. */
  readonly onMoved: (outcome: 'forwarded' | 'refused', records: number) => void;
};

export type Forwarder = {
  /** There is something new to forward. */
  readonly wake: () => void;
  /** There is nothing to forward, so that nothing probes the broker either. */
  readonly isIdle: () => boolean;
  /** Ends after the batch under way, at the latest after `deadlineMs`; what is left stays. Idempotent. */
  readonly close: () => Promise<void>;
};

/** One request of the broker's size: new pins, which share the connection, wait no longer for it than for each other. */
const BATCH_RECORDS = 500;
const BATCH_BYTES = 1024 * 1024;
/**
 * Deadlines that a batch is waited for. Generous: nobody waits for the forwarder, and a batch sent again while the first
 * attempt is still under way arrives twice.
 */
const PATIENCE = 10;
/** Waits before the next attempt when the spool's own file fails, milliseconds: they double from the first to the second. */
const FILE_BASE_MS = 200;
const FILE_MAX_MS = 10_000;

/** Sends batches, in order, each removed once the log has it: a process killed between the two sends one batch again. */
const createSending = (options: ForwarderOptions, stopped: AbortSignal, doneWith: (id: number) => void) => {
  const { log, store, deadlineMs, logger, onMoved } = options;
  const late = () =>
    new PinflowError('timeout', `the broker took more than ${PATIENCE * deadlineMs} ms for a batch of the spool`, {
      retryable: true,
    });

  const keepRefused = ({ id, record }: SpooledRecord, error: unknown) => {
    doneWith(id);
    onMoved('refused', 1);
    logger.error(
      { topic: log.topic, key: record.key, spoolId: id, error: messageOf(error) },
      'the broker refuses a spooled pin: it stays in the spool and is tried again at the next start',
    );
  };

  const removeSent = async (batch: readonly SpooledRecord[]) => {
    const onRetry = (error: unknown) =>
      logger.warn({ error: messageOf(error) }, 'forwarded pins could not be removed from the spool: trying again');
    const limits = { attempts: Number.POSITIVE_INFINITY, baseMs: FILE_BASE_MS, maxMs: FILE_MAX_MS };
    await retry(async () => store.remove(batch), { ...limits, onRetry, signal: stopped });
    doneWith(batch.at(-1)?.id ?? 0);
    onMoved('forwarded', batch.length);
  };

  /** A record the broker will not have is looked for by halves, so that its neighbours are not held up with it. */
  const send = async (batch: readonly SpooledRecord[]): Promise<void> => {
    try {
      if (stopped.aborted) throw new PinflowError('log_unavailable', 'the spool is closed.');
      await withDeadline(log.append(batch.map(({ record }) => record)), PATIENCE * deadlineMs, late);
    } catch (error) {
      if (!isPinflowError(error, 'too_large')) throw error;
      if (batch.length === 1) return keepRefused(batch[0] as SpooledRecord, error);
      const half = Math.ceil(batch.length / 2);
      await send(batch.slice(0, half));
      return send(batch.slice(half));
    }
    // The file is closed by now, perhaps: then the next start sends these again.
    if (!stopped.aborted) await removeSent(batch);
  };
  return send;
};

/** Drains the spool into the log, from its start until `close`; waits while it is empty or the breaker is open. */
export const createForwarder = (options: ForwarderOptions): Forwarder => {
  const { store, breaker, deadlineMs, logger } = options;
  /** No further batch; */
  const ended = new AbortController();
  /** and then not even the rest of this one. */
  const stopped = new AbortController();
  /** Last id that is done with: what the broker refused stays in the file behind it. */
  let cursor = 0;
  const send = createSending(options, stopped.signal, (id) => {
    cursor = id;
  });
  let awake = Promise.withResolvers<void>();
  let idle = false;

  /** @returns how long to wait before the next step, milliseconds; null when there is nothing to forward */
  const step = async (): Promise<number | null> => {
    const batch = store.read(cursor, BATCH_RECORDS, BATCH_BYTES);
    if (batch.length === 0) return null;
    const pass = breaker.probe();
    if (pass === null) return breaker.waitMs();
    const begunAt = performance.now();
    try {
      await send(batch);
    } catch (error) {
      pass.failed(error);
      return breaker.waitMs();
    }
    const tookMs = performance.now() - begunAt;
    if (tookMs <= deadlineMs) pass.succeeded();
    else pass.failed(new PinflowError('timeout', `the broker took ${Math.round(tookMs)} ms for a batch of the spool`));
    return 0;
  };

  const run = async () => {
    while (!ended.signal.aborted) {
      awake = Promise.withResolvers();
      const waitMs = await step().catch((error: unknown) => {
        logger.error({ error: messageOf(error) }, 'the spool cannot be read: trying again');
        return FILE_MAX_MS;
      });
      if (waitMs !== null) {
        await sleep(waitMs, ended.signal);
        continue;
      }
      idle = true;
      await awake.promise;
      idle = false;
    }
  };

  const running = run();
  return {
    wake: () => awake.resolve(),
    isIdle: () => idle,
    close: async () => {
      ended.abort();
      awake.resolve();
      await Promise.race([running, sleep(deadlineMs)]);
      stopped.abort();
    },
  };
};
