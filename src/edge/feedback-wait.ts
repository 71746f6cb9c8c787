import { isPinflowError, PinflowError } from '../errors.ts';
import type { Position } from '../pin/pin.ts';
import { withDeadline } from '../retry.ts';
import type { EdgeBindings } from './deps.ts';
import type { HandledWatch } from './handled-watch.ts';

/** Requests that wait at once: twice what 5,000 pins a second come to while the speed view keeps up. Each holds a few KB. */
const MAX_WAITING = 1000;

/**
 * Waits until the speed view has handled the record at `position`. Never rejects: the pin is durable whatever comes of the wait.
 * @param left aborted when the client goes away: its place is free again
 * @returns null once it is handled, else why that is not known yet
 */
export type FeedbackWait = (
  position: Position,
  left: AbortSignal,
  draining: EdgeBindings['draining'],
) => Promise<string | null>;

/** @param waitMs FEEDBACK_WAIT_MS */
export const createFeedbackWait = ({ watch }: HandledWatch, waitMs: number): FeedbackWait => {
  let waiting = 0;

  const settled = async ({ partition, offset }: Position, left: AbortSignal, draining: EdgeBindings['draining']) => {
    const handled = Promise.withResolvers<string | null>();
    const leave = () => handled.resolve('the client has left');
    const drain = () => handled.resolve('the edge is being stopped');
    const unwatch = watch((next) => {
      if ((next.get(partition) ?? 0) > offset) handled.resolve(null);
    });
    left.addEventListener('abort', leave);
    draining?.addEventListener('abort', drain);
    if (left.aborted) leave();
    if (draining?.aborted) drain();
    const late = () =>
      new PinflowError('timeout', `the speed layer has not handled it within ${waitMs} ms (FEEDBACK_WAIT_MS)`);
    try {
      return await withDeadline(handled.promise, waitMs, late);
    } catch (error) {
      if (isPinflowError(error, 'timeout')) return error.message;
      throw error;
    } finally {
      unwatch();
      left.removeEventListener('abort', leave);
      draining?.removeEventListener('abort', drain);
    }
  };

  return async (...of) => {
    if (waiting >= MAX_WAITING) return `${MAX_WAITING} requests wait for feedback already`;
    waiting++;
    try {
      return await settled(...of);
    } finally {
      waiting--;
    }
  };
};
