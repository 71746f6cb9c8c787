import { messageOf, PinflowError } from '../errors.ts';
import { withDeadline } from '../retry.ts';
import type { EdgeDeps } from './deps.ts';

/** How often the speed view is asked how far it is, milliseconds: what a waiting client waits on top, and ten small statements a second. */
const POLL_MS = 100;
/** Of one question to Postgres or the log, milliseconds: one that hangs must not end the feedback of all. */
const ANSWER_TIMEOUT_MS = 3000;

const late = () =>
  new PinflowError('timeout', `no answer of the speed view or the log within ${ANSWER_TIMEOUT_MS} ms`, {
    retryable: true,
  });

/** What feedback asks of the speed view or the log. @throws PinflowError `timeout` after three seconds */
export const answered = <T>(question: Promise<T>): Promise<T> => withDeadline(question, ANSWER_TIMEOUT_MS, late);

/** Told at each poll: next offset of each partition the speed view has not handled yet. */
type Listener = (handled: ReadonlyMap<number, number>) => void;

/** Follows how far the speed view is, for streams of feedback and for requests that wait for theirs. */
export type HandledWatch = {
  /** @returns ends it */
  readonly watch: (listener: Listener) => () => void;
};

/** One poller for all listeners, and none while there is no listener. */
export const createHandledWatch = ({ feedback, logger }: Pick<EdgeDeps, 'feedback' | 'logger'>): HandledWatch => {
  const listeners = new Set<Listener>();
  let timer: ReturnType<typeof setInterval> | null = null;
  let polling = false;
  const poll = async () => {
    if (polling) return;
    polling = true;
    try {
      const handled = await answered(feedback.handled());
      for (const listener of [...listeners]) listener(handled);
    } catch (error) {
      logger.debug(`no feedback now: ${messageOf(error)}`);
    } finally {
      polling = false;
    }
  };
  return {
    watch: (listener) => {
      listeners.add(listener);
      timer ??= setInterval(() => void poll(), POLL_MS);
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0 || timer === null) return;
        clearInterval(timer);
        timer = null;
      };
    },
  };
};
