import type { Metrics } from './metrics.ts';

/** How often a thread looks at itself, milliseconds: a stall is seen when it is about as long, and looking costs nothing. */
const LOOK_MS = 250;

/**
 * Keeps what a thread can say only of itself: its CPU time, its heap, and how late its event loop comes to a timer.
 * @param thread from a fixed set: `main`, or the name of a worker
 * @returns ends it
 */
export const watchThread = (
  { threadCpu, threadHeap, threadDelay }: Pick<Metrics, 'threadCpu' | 'threadHeap' | 'threadDelay'>,
  thread: string,
): (() => void) => {
  let lookedAt = performance.now();
  let cpuMicros = 0;
  const look = () => {
    const now = performance.now();
    threadDelay.observe({ thread }, Math.max(0, now - lookedAt - LOOK_MS) / 1000);
    lookedAt = now;
    const { user, system } = process.threadCpuUsage();
    threadCpu.inc({ thread }, Math.max(0, user + system - cpuMicros) / 1e6);
    cpuMicros = user + system;
    // Of this thread, as of its last collection; bun:jsc's heapSize() walks the heap, for milliseconds under load.
    threadHeap.set({ thread }, process.memoryUsage().heapUsed);
  };
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
};
