import { afterAll, describe, expect, test } from 'bun:test';
import { freshName } from '../../test/servers/fresh.ts';
import { freePorts } from '../../test/servers/install.ts';
import { type OwnServer, ownServer, testServer } from '../../test/servers/servers.ts';
import { readConfig } from '../config.ts';
import { isPinflowError, type PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { Position } from '../pin/pin.ts';
import { join, recordOf, until } from './contract.ts';
import { openKafkaLog } from './kafka.ts';
import type { PinLog } from './log.ts';

/** How the log behaves towards brokers that refuse it, are away, hang and come back. */
const server = await testServer('kafka');
const { saslBrokers, saslUsername = '', saslPassword = '', tlsBrokers, tlsCaFile = '' } = server.extra;
const isOurs = 'from' in server && server.from === 'packages';
if (!('skip' in server) && !isOurs) console.warn('skipped: logins, TLS and outages need a broker of our own');

const opened: PinLog[] = [];
const warnings: string[] = [];
const ignore = () => {};
const logger = {
  debug: ignore,
  info: ignore,
  error: ignore,
  warn: (details: { error?: string }, message: string) => warnings.push(`${message} ${details.error}`),
} as unknown as Logger;

const open = async (env: Record<string, string>, topic = freshName('pins')) => {
  const log = await openKafkaLog(readConfig(env), { topic, logger, partitions: 2 });
  opened.push(log);
  return log;
};

const refusal = async (work: Promise<unknown>): Promise<PinflowError> => {
  const error = await work.then(
    () => new Error('it was not refused'),
    (e: unknown) => e,
  );
  if (!isPinflowError(error)) throw error;
  return error;
};

const appendOne = (log: PinLog) => log.append([recordOf('k', 'v')]);

afterAll(async () => {
  await Promise.all(opened.map((log) => log.close()));
}, 30_000);

describe('a broker that is not there', () => {
  test('is named with the variable to look at, retryable, at once when known, and in one line for many attempts', async () => {
    const [port] = await freePorts(1);
    warnings.length = 0;
    const log = await open({ KAFKA_BROKERS: `127.0.0.1:${port}` });
    const error = await refusal(appendOne(log));
    expect(error.code).toBe('log_unavailable');
    expect(error.retryable).toBe(true);
    for (let i = 0; i < 100; i++) await refusal(appendOne(log));
    const known = await refusal(appendOne(log));
    expect(known.message).toContain(`no broker answers at 127.0.0.1:${port}`);
    expect(known.message).toContain('KAFKA_BROKERS');
    expect(warnings.length).toBeLessThanOrEqual(1);
    const member = join(log);
    await log.close();
    await member.consumer.done;
    expect((await refusal(appendOne(log))).code).toBe('log_unavailable');
  }, 60_000);

  test('is a matter of configuration when none is named, or its CA file is not there', async () => {
    expect((await refusal(open({}))).code).toBe('config');
    const error = await refusal(
      open({ KAFKA_BROKERS: 'x:1', KAFKA_TLS: 'true', KAFKA_TLS_CA_FILE: '/no/such/ca.pem' }),
    );
    expect(error.message).toContain('KAFKA_TLS_CA_FILE=/no/such/ca.pem');
  });
});

describe.skipIf(saslBrokers === undefined)('a broker that wants a login', () => {
  const login = (mechanism: string, password = saslPassword) => ({
    KAFKA_BROKERS: saslBrokers ?? '',
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_SASL_USERNAME: saslUsername,
    KAFKA_SASL_PASSWORD: password,
  });

  for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512']) {
    test(`lets us in by ${mechanism}, and a wrong password is named, not shown`, async () => {
      const log = await open(login(mechanism));
      await appendOne(log);
      const member = join(log, { group: freshName('g') });
      await until('it is consumed', () => member.records.length === 1);
      await member.consumer.close();

      const refused = await open(login(mechanism, 'not-the-password'));
      const error = await refusal(appendOne(refused));
      expect(error.message).toContain(`refused the login of ${saslUsername} by ${mechanism}`);
      expect(error.message).toContain('KAFKA_SASL_PASSWORD');
      expect(error.message).not.toContain('not-the-password');
    }, 60_000);
  }

  test('is explained when we send none', async () => {
    const log = await open({ KAFKA_BROKERS: saslBrokers ?? '' });
    expect((await refusal(appendOne(log))).message).toContain('KAFKA_SASL_MECHANISM');
  }, 60_000);
});

describe.skipIf(tlsBrokers === undefined)('a broker with TLS', () => {
  test('is used when its CA is known', async () => {
    const log = await open({ KAFKA_BROKERS: tlsBrokers ?? '', KAFKA_TLS: 'true', KAFKA_TLS_CA_FILE: tlsCaFile });
    const [position] = await log.append([recordOf('k', 'v')]);
    expect((await log.read(position as Position, 1)).length).toBe(1);
  }, 60_000);

  test('is not trusted when it is not', async () => {
    const log = await open({ KAFKA_BROKERS: tlsBrokers ?? '', KAFKA_TLS: 'true' });
    const error = await refusal(appendOne(log));
    expect(error.message).toContain('certificate');
    expect(error.message).toContain('KAFKA_TLS_CA_FILE');
  }, 60_000);

  test('is named when we speak plainly to it', async () => {
    const log = await open({ KAFKA_BROKERS: tlsBrokers ?? '' });
    expect((await refusal(appendOne(log))).message).toContain('KAFKA_TLS=true');
  }, 60_000);
});

/**
 * With REQUEST_TIMEOUT_MS=1500, kafkajs gives a request up after 1.2 s, sends it again, and gives up again at 2.5 s: the broker
 * comes back while the first is being retried, just after others could be sent under its sequence numbers, and later.
 */
const HANGS_MS = [1400, 2700, 3000, 4000];

describe.skipIf(!isOurs)('a broker that comes and goes', () => {
  let own: OwnServer | null = null;
  afterAll(async () => {
    if (own !== null) process.kill(own.pid, 'SIGCONT');
    await own?.stop();
  }, 60_000);

  const text = new TextDecoder();
  const valueAt = async (log: PinLog, position: Position) => text.decode((await log.read(position, 1))[0]?.value);

  test('is used when it comes up, and loses no acked record when it hangs', async () => {
    const [port] = await freePorts(1);
    const log = await open({ KAFKA_BROKERS: `127.0.0.1:${port}`, REQUEST_TIMEOUT_MS: '1500' });
    const member = join(log);
    await refusal(appendOne(log));
    own = await ownServer('kafka', port);
    await until('the first append', () =>
      appendOne(log).then(
        () => true,
        () => false,
      ),
    );
    await until('the first record is consumed', () => member.records.length >= 1);

    // A broker that hangs still takes what was sent, after we have given it up. What is sent next, in batches of the same
    // sizes, must not be taken for a repetition of it: an ack would stand for records that are nowhere.
    const acked: { readonly value: string; readonly position: Position }[] = [];
    let refused = 0;
    let round = 0;
    const appendRound = async () => {
      round += 1;
      const values = Array.from({ length: 10 }, (_, i) => `round ${round} record ${i}`);
      const results = await Promise.allSettled(values.map((value, i) => log.append([recordOf(`key ${i}`, value)])));
      for (const [i, result] of results.entries()) {
        if (result.status === 'rejected') refused += 1;
        else acked.push({ value: values[i] as string, position: result.value[0] as Position });
      }
    };
    for (const hangMs of HANGS_MS) {
      process.kill(own.pid, 'SIGSTOP');
      const resume = Bun.sleep(hangMs).then(() => process.kill((own as OwnServer).pid, 'SIGCONT'));
      const before = acked.length;
      await until('appends work again', async () => {
        await appendRound();
        return acked.length > before;
      });
      await resume;
    }
    expect(refused).toBeGreaterThan(0);
    for (const { value, position } of acked) expect(await valueAt(log, position)).toBe(value);
    const consumed = () => new Set(member.records.map((record) => text.decode(record.value)));
    await until('the consumer has all that was acked', () => acked.every(({ value }) => consumed().has(value)));
    await log.close();
  }, 180_000);
});
