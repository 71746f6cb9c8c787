import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../config.ts';
import { createLogger } from '../logger.ts';
import { createMetrics } from '../metrics.ts';
import { recordOf } from './contract.ts';
import { openDeadLetterLog, openInlet, openLog } from './open.ts';

const logger = createLogger('silent', 'test');

describe('openLog', () => {
  test('without a broker it is the embedded log: the pin topic, and a dead letter queue of one partition', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pinflow-open-'));
    const config = readConfig({ DATA_DIR: dir, PARTITIONS: '4', PIN_TOPIC: 'posts' });
    const pins = await openLog(config, { logger });
    const letters = await openDeadLetterLog(config, { logger });
    expect([pins.kind, pins.topic, (await pins.partitions()).length]).toEqual(['sqlite', 'posts', 4]);
    expect([letters.topic, (await letters.partitions()).length]).toEqual(['posts.dlq', 1]);
    await pins.close();
    await letters.close();
    await rm(dir, { recursive: true });
  });

  test('with brokers it is Kafka, also while none answers', async () => {
    const config = readConfig({ KAFKA_BROKERS: '127.0.0.1:1' });
    const log = await openLog(config, { logger });
    expect([log.kind, log.durability]).toEqual(['kafka', 'broker']);
    await log.close();
  });
});

describe('openInlet', () => {
  for (const [engine, brokers, durability] of [
    ['the embedded log', undefined, 'log'],
    ['a broker that is away', '127.0.0.1:1', 'spool'],
  ] as const) {
    test(`with ${engine} an append is durable in the ${durability}`, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'pinflow-inlet-'));
      const config = readConfig({ DATA_DIR: dir, KAFKA_BROKERS: brokers });
      const log = await openLog(config, { logger });
      const inlet = await openInlet(config, log, { logger, metrics: createMetrics() });
      expect((await inlet.append([recordOf('k', 'v')])).durability).toBe(durability);
      await inlet.close();
      await log.close();
      await rm(dir, { recursive: true });
    });
  }
});
