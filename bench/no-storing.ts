import { risingMicros, systemClock } from '../src/clock.ts';
import { readConfig } from '../src/config.ts';
import { createApp } from '../src/edge/app.ts';
import { startEdge } from '../src/edge/server.ts';
import { straightInlet } from '../src/log/inlet.ts';
import { createLogger } from '../src/logger.ts';
import { createMetrics } from '../src/metrics.ts';

/**
 * The limit the edge is measured against: the same app, with a log that keeps nothing and acks at once. Run as its own process.
 */
const logger = createLogger('warn', 'bench');
const nobody = async () => {
  throw new Error('not in this bench');
};
const edge = startEdge({
  app: createApp({
    inlet: straightInlet({
      append: async (records) => records.map((_, offset) => ({ partition: 0, offset })),
      durability: 'log',
    }),
    stamp: risingMicros(systemClock),
    clock: systemClock,
    limits: readConfig({}),
    metrics: createMetrics(),
    metricsText: nobody,
    readiness: () => [],
    journey: nobody,
    status: nobody,
    recentErrors: nobody,
    errorPins: nobody,
    feedback: { handled: nobody, read: nobody },
    recentRuns: nobody,
    history: () => [],
    run: nobody,
    letters: { list: nobody, show: nobody, resolve: nobody },
    query: nobody,
    logger,
  }),
  host: '127.0.0.1',
  port: 0,
  requestTimeoutMs: 10_000,
  logger,
});
process.stdout.write(`edge  ${edge.url}\n`);
