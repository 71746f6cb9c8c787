/**
 * `each` over all items, some of them a turn of the event loop, so that what else waits on this thread (a socket to be filled, a
 * heartbeat) does not wait for all of them. Throws what `each` throws.
 * @param perTurn items: choose so many that they take some milliseconds
 */
export const eachInTurns = async <T>(items: readonly T[], perTurn: number, each: (item: T) => void): Promise<void> => {
  for (let at = 0; at < items.length; at += perTurn) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve));
    const end = Math.min(items.length, at + perTurn);
    for (let i = at; i < end; i++) each(items[i] as T);
  }
};
