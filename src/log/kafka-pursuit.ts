import { PinflowError } from '../errors.ts';
import { atMost, sleep } from '../retry.ts';

/** Something only the broker can give, asked for in the background for as long as it takes. */
export type Pursuit<T> = {
  /**
   * What was got. @throws PinflowError `log_unavailable`: at once with the last failure while there is one, else after
   * {@link FIRST_WAIT_MS} without an answer
   */
  readonly get: () => Promise<T>;
  /** What was got already, or null. */
  readonly peek: () => T | null;
  /** Starts anew, unless that happened already. @param stale what turned out to be of no use any more */
  readonly renew: (stale: T) => void;
  /** Ends the pursuit. @returns what was got, to be closed */
  readonly close: () => Promise<T | null>;
};

/** Longest a caller waits where nothing is known to be wrong yet, milliseconds: connecting takes about 50. */
const FIRST_WAIT_MS = 3000;
/** Waits between attempts, milliseconds: they double from the first to the second. */
const BASE_MS = 200;
const MAX_MS = 5000;

type State<T> = {
  value: T | null;
  failure: PinflowError | null;
  /** Resolves with the first attempt, whatever came of it. */
  tried: Promise<void> | null;
  running: Promise<void> | null;
};

/**
 * @param attempt one try; throws PinflowErrors
 * @param onFailure told of each failed try
 */
export const pursue = <T>(attempt: () => Promise<T>, onFailure: (error: PinflowError) => void): Pursuit<T> => {
  const ended = new AbortController();
  const state: State<T> = { value: null, failure: null, tried: null, running: null };

  const run = async (tried: () => void) => {
    for (let waitMs = BASE_MS; !ended.signal.aborted; waitMs = Math.min(MAX_MS, waitMs * 2)) {
      try {
        state.value = await attempt();
        state.failure = null;
        return;
      } catch (error) {
        state.failure = error as PinflowError;
        if (!ended.signal.aborted) onFailure(state.failure);
      } finally {
        tried();
      }
      await sleep(waitMs, ended.signal);
    }
  };

  const start = () => {
    if (state.running !== null) return;
    const first = Promise.withResolvers<void>();
    state.tried = first.promise;
    state.running = run(first.resolve).finally(() => {
      state.running = null;
    });
  };

  return {
    get: async () => {
      if (state.value !== null) return state.value;
      if (ended.signal.aborted) throw new PinflowError('log_unavailable', 'the log is closed.');
      start();
      if (state.failure === null) await atMost(state.tried ?? Promise.resolve(), FIRST_WAIT_MS);
      if (state.value !== null) return state.value;
      if (state.failure !== null) throw state.failure;
      throw new PinflowError('log_unavailable', 'the broker has not answered yet: see KAFKA_BROKERS.', {
        retryable: true,
      });
    },
    peek: () => state.value,
    renew: (stale) => {
      if (state.value !== stale) return;
      state.value = null;
      start();
    },
    close: async () => {
      ended.abort();
      await state.running;
      return state.value;
    },
  };
};
