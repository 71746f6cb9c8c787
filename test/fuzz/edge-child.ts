import { openHarness } from '../../src/edge/fixture.ts';
import { startEdge } from '../../src/edge/server.ts';
import { createLogger } from '../../src/logger.ts';
import { LIMITS } from './limits.ts';

/** The real edge over a real log, in a process of its own, so that its memory can be told: prints its URL and serves until killed. */
const harness = await openHarness({ limits: LIMITS });
const edge = startEdge({
  app: harness.app,
  host: '127.0.0.1',
  port: 0,
  requestTimeoutMs: LIMITS.REQUEST_TIMEOUT_MS,
  logger: createLogger('silent', 'fuzz'),
});
process.stdout.write(`${edge.url}\n`);
process.stdin.on('end', async () => {
  await edge.stop(1000);
  await harness.close();
  process.exit(0);
});
process.stdin.resume();
