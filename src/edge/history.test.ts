import { expect, test } from 'bun:test';
import { createLogger } from '../logger.ts';
import { someStatus } from './fixture.ts';
import { startHistory } from './history.ts';

const logger = createLogger('silent', 'test');

test('samples are taken over time, one that fails is left out, and no more after stop', async () => {
  let asked = 0;
  let now = 0;
  const history = startHistory({
    status: async () => {
      asked++;
      if (asked === 2) throw new Error('not now');
      return someStatus;
    },
    clock: { now: () => ++now },
    logger,
    sampleMs: 1,
    maxSamples: 3,
  });
  while (history.samples().length < 3 || asked < 6) await Bun.sleep(1);
  history.stop();
  const { length, 0: oldest } = history.samples();
  expect(length).toBe(3);
  expect(oldest?.at).toBeGreaterThan(1);
  expect(oldest).toMatchObject({ pins: { edge: 3 }, rejected: 1, durable: [3, 0], fields: { title: 2 } });
});
