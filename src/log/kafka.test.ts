import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Admin, CompressionTypes, Kafka, logLevel } from 'kafkajs';
import { freshName } from '../../test/servers/fresh.ts';
import { testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { isPinflowError } from '../errors.ts';
import { createLogger, type Logger } from '../logger.ts';
import { join, logContract, recordOf, until } from './contract.ts';
import { openKafkaLog } from './kafka.ts';
import type { PinLog } from './log.ts';
import { partitionOf } from './partitioner.ts';

const server = await testServer('kafka');
const brokers = server.settings.KAFKA_BROKERS ?? '';
const silent = createLogger('silent', 'test');

const opened: PinLog[] = [];
const openTopic = async (
  topic: string,
  partitions = 1,
  { logger = silent, env = {} }: { logger?: Logger; env?: Record<string, string> } = {},
) => {
  const log = await openKafkaLog(readConfig({ ...server.settings, ...env }), { topic, logger, partitions });
  opened.push(log);
  return log;
};

/** Keeps the warnings. */
const recordWarnings = () => {
  const warnings: string[] = [];
  const ignore = () => {};
  const warn = (details: unknown, message: string) => warnings.push(`${message} ${JSON.stringify(details)}`);
  const logger = { debug: ignore, info: ignore, warn, error: ignore } as unknown as Logger;
  return { warnings, logger };
};

const text = new TextDecoder();
const texts = (records: readonly { readonly value: Uint8Array }[]) => records.map(({ value }) => text.decode(value));
const numbered = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, i) => recordOf(`${prefix}-${i}`, `${prefix}-${i}`));

describe.skipIf('skip' in server)('on a real broker', () => {
  const other = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING });
  let admin: Admin;

  beforeAll(async () => {
    admin = other.admin();
    await admin.connect();
  }, 30_000);
  afterAll(async () => {
    await Promise.all(opened.map((log) => log.close()));
    await admin.disconnect();
  }, 30_000);

  logContract(
    'kafka',
    async ({ partitions }) => {
      const topic = freshName('pins');
      const mine: PinLog[] = [];
      const open = async () => {
        const log = await openTopic(topic, partitions);
        mine.push(log);
        return log;
      };
      return {
        log: await open(),
        reopen: open,
        cleanup: async () => {
          await Promise.all(mine.map((log) => log.close()));
          await admin.deleteTopics({ topics: [topic] });
        },
      };
    },
    { lastTimestamp: false },
  );

  describe('the topic', () => {
    const settingsOf = async (topic: string) => {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: 2, name: topic }],
      });
      return new Map(resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]));
    };

    test('is created with what is set', async () => {
      const topic = freshName('pins');
      const log = await openTopic(topic, 5, { env: { RETENTION_HOURS: '7', RETENTION_BYTES: '50000000' } });
      expect((await log.partitions()).length).toBe(5);
      const settings = await settingsOf(topic);
      expect(settings.get('retention.ms')).toBe(String(7 * 3_600_000));
      expect(settings.get('retention.bytes')).toBe('10000000');
      expect(Number(settings.get('max.message.bytes'))).toBeGreaterThan(2 * 2 ** 21);
    });

    test('is left as it is when it differs, and each difference is told with its remedy', async () => {
      const topic = freshName('pins');
      const configEntries = [
        { name: 'retention.ms', value: '60000' },
        { name: 'max.message.bytes', value: '5000' },
      ];
      await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries }] });
      const { warnings, logger } = recordWarnings();
      const log = await openTopic(topic, 4, { logger });
      expect((await log.partitions()).length).toBe(2);
      expect(warnings.join('\n')).toContain('it has 2 partitions, PARTITIONS asks for 4: set PARTITIONS=2');
      expect(warnings.join('\n')).toContain(`rpk topic alter-config ${topic} --set retention.ms=604800000`);
      expect(warnings.join('\n')).toContain('max.message.bytes is 5000');
      expect((await settingsOf(topic)).get('retention.ms')).toBe('60000');
    });

    test('refuses a record it cannot take, and not its neighbours', async () => {
      const topic = freshName('pins');
      const configEntries = [{ name: 'max.message.bytes', value: '5000' }];
      await admin.createTopics({ topics: [{ topic, numPartitions: 1, replicationFactor: 1, configEntries }] });
      const log = await openTopic(topic);
      const [before, large, after] = await Promise.allSettled([
        log.append([recordOf('k', 'before')]),
        log.append([{ key: 'k', value: crypto.getRandomValues(new Uint8Array(6000)) }]),
        // More than one batch may hold, in records that are small enough.
        log.append(
          Array.from({ length: 20 }, () => ({ key: 'k', value: crypto.getRandomValues(new Uint8Array(900)) })),
        ),
      ]);
      expect(before.status).toBe('fulfilled');
      expect(large.status === 'rejected' && isPinflowError(large.reason, 'too_large')).toBe(true);
      expect(after.status === 'fulfilled' && after.value.length).toBe(20);
    });
  });

  describe('records of other producers', () => {
    const kcat = async (topic: string, args: readonly string[], input: string) => {
      const child = Bun.spawn(['kcat', '-P', '-b', brokers, '-t', topic, ...args], {
        stdin: Buffer.from(input),
        stderr: 'pipe',
      });
      expect(await child.exited, await new Response(child.stderr).text()).toBe(0);
    };
    const withoutKcat = Bun.which('kcat') === null;
    if (withoutKcat) console.warn('skipped: no kcat (the package `kcat`) to write as another producer would');

    for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
      test.skipIf(withoutKcat)(
        `are read, compressed with ${codec}`,
        async () => {
          const log = await openTopic(freshName('pins'));
          await log.partitions();
          const lines = Array.from({ length: 500 }, (_, i) => `a line that repeats, number ${i}`);
          await kcat(log.topic, ['-z', codec, '-p', '0', '-X', 'linger.ms=100'], `${lines.join('\n')}\n`);
          const member = join(log);
          await until('all are consumed', () => member.records.length === lines.length);
          expect(texts(member.records)).toEqual(lines);
          expect(texts(await log.read({ partition: 0, offset: 0 }, 1000))).toEqual(lines);
          await member.consumer.close();
        },
        60_000,
      );
    }

    test.skipIf(withoutKcat)(
      'stand in the partition where ours would',
      async () => {
        const log = await openTopic(freshName('pins'), 7);
        await log.partitions();
        const keys = [...Array.from({ length: 200 }, () => crypto.randomUUID()), 'ключ-🔑', 'a', 'ab', 'abc', 'abcd'];
        const lines = keys.map((key) => `${key}\tv\n`).join('');
        await kcat(log.topic, ['-K', '\t', '-X', 'topic.partitioner=murmur2_random'], lines);
        const member = join(log);
        await until('all are consumed', () => member.records.length === keys.length);
        for (const { key, partition } of member.records) expect(partition).toBe(partitionOf(key ?? '', 7));
        await member.consumer.close();
      },
      60_000,
    );

    test('may be in transactions: the committed are delivered, the holes of the others stepped over', async () => {
      const log = await openTopic(freshName('pins'));
      await log.append([recordOf('k', 'first')]);
      const producer = other.producer({ transactionalId: freshName('tx'), idempotent: true, maxInFlightRequests: 1 });
      await producer.connect();
      for (const outcome of ['commit', 'abort', 'commit'] as const) {
        const transaction = await producer.transaction();
        await transaction.send({ topic: log.topic, messages: [{ key: 'k', value: outcome }] });
        await transaction[outcome]();
      }
      await producer.disconnect();
      await log.append([recordOf('k', 'last')]);
      const member = join(log);
      await until('the last', () => member.records.length >= 4);
      expect(texts(member.records)).toEqual(['first', 'commit', 'commit', 'last']);
      // Between them: the aborted one, and the broker's markers.
      expect(member.records.slice(0, 3).map((r) => r.offset)).toEqual([0, 1, 5]);
      await member.consumer.close();
    }, 60_000);

    test('may have no key, no value and a header given twice', async () => {
      const log = await openTopic(freshName('pins'));
      await log.partitions();
      const producer = other.producer();
      await producer.connect();
      const message = { key: null, value: null, headers: { h: ['one', 'two'] } };
      await producer.send({ topic: log.topic, compression: CompressionTypes.None, messages: [message] });
      await producer.disconnect();
      const [record] = await log.read({ partition: 0, offset: 0 }, 1);
      expect(record).toMatchObject({ key: null, value: new Uint8Array(0), headers: { h: 'two' } });
    }, 60_000);
  });

  /** As retention would. The admin does not know a new topic's leader at once. */
  const deleteBefore = (topic: string, offset: number) =>
    until(`records before ${offset} are deleted`, async () => {
      const deleting = admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] });
      return deleting.then(
        () => true,
        () => false,
      );
    });

  describe('a consumer', () => {
    test('starts at the earliest kept, with a warning, when its start has left the log or never was', async () => {
      const { warnings, logger } = recordWarnings();
      const log = await openTopic(freshName('pins'), 1, { logger });
      await log.append(numbered(20, 'r'));
      await deleteBefore(log.topic, 8);
      for (const startAt of [3, 500]) {
        warnings.length = 0;
        const member = join(log, { group: `from-${startAt}`, startAt: () => startAt });
        await until('what is kept', () => member.records.length === 12);
        expect(member.records[0]?.offset).toBe(8);
        expect(warnings.join()).toContain('offset is not in the log: going on at the earliest');
        expect(warnings.join()).toContain(`"wanted":${startAt}`);
        await member.consumer.close();
      }
    }, 60_000);

    test('of another topic takes no part in a group of the same name', async () => {
      const logs = [await openTopic(freshName('pins'), 2), await openTopic(freshName('pins'), 2)];
      const members = logs.map((log) => join(log, { group: 'same' }));
      await until('each has its partitions', () => members.every(({ owned }) => owned.size === 2));
      for (const log of logs) await log.append(numbered(20, log.topic));
      await until('each has its records', () => members.every(({ records }) => records.length === 20));
      for (const { consumer } of members) await consumer.close();
    }, 60_000);

    test('is told what retention took from under it', async () => {
      const { warnings, logger } = recordWarnings();
      const log = await openTopic(freshName('pins'), 1, { logger });
      await log.append(numbered(20, 'r'));
      const gate = Promise.withResolvers<void>();
      const member = join(log, { maxRecords: 5, onBatch: () => gate.promise });
      await until('the first batch', () => member.batches.length === 1);
      // What is fetched already is still delivered: it must lose what it has not fetched.
      member.consumer.seek(0, 5);
      await deleteBefore(log.topic, 15);
      gate.resolve();
      await until('the end', () => member.records.at(-1)?.offset === 19);
      expect(member.records.slice(5).map((r) => r.offset)).toEqual([15, 16, 17, 18, 19]);
      expect(warnings.join()).toContain('these offsets left the log before the group had read them');
      expect(warnings.join()).toContain('"from":5,"to":14');
      await member.consumer.close();
    }, 60_000);

    test('goes on where it was with what it keeps through a rebalance, committed or not', async () => {
      const topic = freshName('pins');
      const [one, two] = [await openTopic(topic, 4), await openTopic(topic, 4)];
      await one.append(numbered(80, 'early'));
      const first = join(one);
      await until('the first has all', () => first.records.length === 80);
      const second = join(two);
      await until('two each', () => first.owned.size === 2 && second.owned.size === 2);
      await one.append(numbered(80, 'late'));
      const seen = () => new Set(texts([...first.records, ...second.records])).size;
      await until('all 160', () => seen() === 160);
      const kept = first.records.filter(({ partition }) => first.owned.has(partition));
      expect(new Set(kept.map((r) => `${r.partition}/${r.offset}`)).size).toBe(kept.length);
      await Promise.all([first.consumer.close(), second.consumer.close()]);
    }, 60_000);

    test('with a slow sink is not thrown out of its group', async () => {
      const log = await openTopic(freshName('pins'));
      await log.append(numbered(2, 'r'));
      let slow = true;
      const member = join(log, {
        maxRecords: 1,
        onBatch: async () => {
          // Longer than the session.
          if (slow) await Bun.sleep(12_000);
          slow = false;
        },
      });
      await until('both', () => member.records.length === 2);
      expect(member.lost.size).toBe(0);
      await member.consumer.commit(0, 2);
      await member.consumer.close();
    }, 60_000);
  });
});
