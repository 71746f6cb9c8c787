import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { readConfig, SETTINGS, type SettingName } from './config.ts';
import { PinflowError } from './errors.ts';

const NAMES = Object.keys(SETTINGS) as SettingName[];
const SECRETS = NAMES.filter((name) => SETTINGS[name].secret);

const problemOf = (env: Readonly<Record<string, string>>): string => {
  try {
    readConfig(env);
  } catch (error) {
    expect(error).toBeInstanceOf(PinflowError);
    expect((error as PinflowError).code).toBe('config');
    return (error as PinflowError).message;
  }
  throw new Error(`was taken: ${JSON.stringify(env)}`);
};

describe('defaults', () => {
  test('an empty environment is a whole configuration, all parts embedded', () => {
    const config = readConfig({});
    expect(config).toMatchObject({
      HOST: '127.0.0.1',
      PORT: 8000,
      DATA_DIR: './.data',
      PIN_TOPIC: 'pins',
      CLEAN_CRON: '*/1 * * * *',
      CQL_KEYSPACE: 'pinkeyspace',
      KAFKA_TLS: false,
      S3_PREFIX: '',
    });
    const embedded = [
      'KAFKA_BROKERS',
      'S3_BUCKET',
      'SCYLLA_CONTACT_POINTS',
      'CASSANDRA_CONTACT_POINTS',
      'DATABASE_URL',
      'TRINO_URL',
    ] as const;
    for (const name of [...embedded, 'API_KEYS'] as const) expect(config[name]).toBeUndefined();
    expect(Object.keys(config)).toEqual(NAMES);
  });

  test('a variable set to nothing counts as unset', () => {
    expect(readConfig(Object.fromEntries(NAMES.map((name) => [name, ''])))).toEqual(readConfig({}));
  });

  test('the configuration is frozen', () => expect(Object.isFrozen(readConfig({}))).toBe(true));

  test('variables of others are no concern', () => {
    expect(readConfig({ PATH: '/bin', KAFKA_BROKER: 'typo' })).toEqual(readConfig({}));
  });
});

describe('values are read as their type', () => {
  const cases: readonly (readonly [SettingName, string, unknown])[] = [
    ['PORT', '0', 0],
    ['PORT', '65535', 65_535],
    ['LOG_LEVEL', 'silent', 'silent'],
    ['KAFKA_BROKERS', 'a:9092, b:9093,', ['a:9092', 'b:9093']],
    ['KAFKA_BROKERS', '[::1]:9092', ['[::1]:9092']],
    ['KAFKA_TLS', 'true', true],
    ['API_KEYS', 'ada:0123456789abcdef, bob:with:colon:89abcdef', ['ada:0123456789abcdef', 'bob:with:colon:89abcdef']],
    ['S3_PREFIX', 'a=1/b.c/', 'a=1/b.c/'],
    ['S3_ENDPOINT', 'http://127.0.0.1:9000', 'http://127.0.0.1:9000'],
    ['DATABASE_URL', 'postgresql://u:p@h/d', 'postgresql://u:p@h/d'],
    ['PIN_TOPIC', 'a.b_c-9', 'a.b_c-9'],
  ];
  for (const [name, value, want] of cases) {
    test(`${name}=${value}`, () => expect<unknown>(readConfig({ [name]: value })[name]).toEqual(want));
  }
});

describe('a wrong value is named, with what it should be', () => {
  const cases: readonly (readonly [SettingName, string, string])[] = [
    ['PORT', '65536', 'should be at most 65535'],
    ['PORT', '-1', 'should be at least 0'],
    ['PORT', '80.5', 'should be a whole number from 0 to 65535'],
    ['PORT', '1e3', 'should be a whole number'],
    ['PORT', ' 80', 'should be a whole number'],
    ['PORT', 'http', 'should be a whole number'],
    ['MAX_PIN_BYTES', '99999999999999999999', 'should be at most'],
    ['LOG_LEVEL', 'INFO', 'trace'],
    ['KAFKA_TLS', 'yes', 'should be true or false'],
    ['KAFKA_BROKERS', ' , ', 'should have at least one entry'],
    ['KAFKA_BROKERS', 'broker', 'should be host:port'],
    ['KAFKA_BROKERS', 'kafka://broker:9092', 'should be host:port'],
    ['KAFKA_SASL_MECHANISM', 'PLAIN', 'scram-sha-256'],
    ['PIN_TOPIC', 'my pins', 'should be 1 to 200 of A-Za-z0-9._-'],
    ['PIN_TOPIC', 'p'.repeat(201), 'should be 1 to 200 of A-Za-z0-9._-'],
    ['S3_ENDPOINT', '127.0.0.1:9000', 'should be a URL with http: or https:'],
    ['S3_PREFIX', 'prod', 'should be empty or folders that each end in /'],
    ['S3_PREFIX', '/', 'should be empty or folders'],
    ['S3_SSE', 'aes', 'AES256'],
    ['CQL_KEYSPACE', 'Pins', 'should be a lower-case CQL name'],
    ['DATABASE_URL', 'mysql://localhost/x', 'should be a URL with postgres: or postgresql:'],
    ['TRINO_URL', 'trino', 'should be a URL with http: or https:'],
    ['WORKERS_CLEAN', '2', 'should be at most 1'],
  ];
  for (const [name, value, hint] of cases) {
    test(`${name}=${value.slice(0, 30)}`, () => {
      const problem = problemOf({ [name]: value });
      expect(problem).toContain(`\n  ${name}`);
      expect(problem).toContain(hint);
      expect(problem).toContain(SETTINGS[name].doc);
      if (!SETTINGS[name].secret) expect(problem).toContain(`${name}=${JSON.stringify(value)}`);
    });
  }

  test('all wrong ones at once', () => {
    const problem = problemOf({ PORT: 'x', KAFKA_TLS: 'x', S3_SSE: 'x' });
    expect(problem.match(/^ {2}[A-Z0-9_]+/gm)).toEqual(['  PORT', '  KAFKA_TLS', '  S3_SSE']);
  });

  test('property: no text is taken for a number that is none, and none is thrown over but with PinflowError', () => {
    const numbers = NAMES.filter((name) => /^\d+$/.test(SETTINGS[name].fallback ?? ''));
    expect(numbers.length).toBeGreaterThan(15);
    fc.assert(
      fc.property(fc.constantFrom(...numbers), fc.oneof(fc.string(), fc.integer().map(String)), (name, text) => {
        try {
          const value = readConfig({ [name]: text })[name];
          expect(Number.isSafeInteger(value)).toBe(true);
          if (text !== '') expect(value as number).toBe(Number(text));
        } catch (error) {
          expect(error).toBeInstanceOf(PinflowError);
        }
      }),
    );
  });
});

describe('settings that must fit together', () => {
  const key = 'ada:0123456789abcdef';
  const wrong: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
    ['open to other machines without keys', { HOST: '0.0.0.0' }, 'set API_KEYS'],
    ['open to other machines over IPv6', { HOST: '::' }, 'set API_KEYS'],
    ['a port to be shared by edges with a log of their own', { REUSE_PORT: 'true' }, 'set KAFKA_BROKERS'],
    ['a port to be shared that each takes for itself', { REUSE_PORT: 'true', PORT: '0' }, 'set one PORT for all'],
    ['SASL without a name', { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_PASSWORD: 'x' }, 'KAFKA_SASL_USERNAME'],
    ['SASL without a password', { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'x' }, 'KAFKA_SASL_PASSWORD'],
    ['a pin larger than a body', { MAX_PIN_BYTES: '2048', MAX_BODY_BYTES: '1024' }, 'MAX_BODY_BYTES'],
    ['half of an AWS key', { AWS_ACCESS_KEY_ID: 'x' }, 'AWS_SECRET_ACCESS_KEY'],
    ['the other half', { AWS_SECRET_ACCESS_KEY: 'x' }, 'AWS_ACCESS_KEY_ID'],
    ['an API key without a name', { API_KEYS: '0123456789abcdef' }, '`name:key`'],
    ['an API key too short to be safe', { API_KEYS: `${key},bob:short` }, 'at least 16 characters'],
  ];
  for (const [name, env, hint] of wrong) test(name, () => expect(problemOf(env)).toContain(hint));

  const right: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
    ['open to other machines with keys', { HOST: '0.0.0.0', API_KEYS: key }],
    ['localhost by name', { HOST: 'localhost' }],
    ['a port to be shared', { REUSE_PORT: 'true', PORT: '8000', KAFKA_BROKERS: 'b:9092' }],
    ['loopback over IPv6', { HOST: '::1' }],
    ['SASL whole', { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'x', KAFKA_SASL_PASSWORD: 'y' }],
    ['an AWS key whole', { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'y' }],
  ];
  for (const [name, env] of right) test(name, () => expect(Object.keys(readConfig(env))).toEqual(NAMES));
});

describe('secrets', () => {
  const SECRET = 'hunter2-never-shown';

  test('those that look like secrets are marked as such', () => {
    const looks = NAMES.filter((name) => /PASSWORD|SECRET|ACCESS_KEY|API_KEYS|DATABASE_URL|OTLP_HEADERS/.test(name));
    expect(SECRETS.toSorted()).toEqual(looks.toSorted());
  });

  for (const name of SECRETS) {
    test(`the value of ${name} is in no message`, () => {
      const alone = () => readConfig({ [name]: SECRET, HOST: '0.0.0.0', PORT: 'x' });
      const together = () => readConfig({ [name]: SECRET, HOST: '0.0.0.0', KAFKA_SASL_MECHANISM: 'plain' });
      for (const read of [alone, together]) {
        expect(read).toThrow(PinflowError);
        expect(read).not.toThrow(SECRET);
      }
    });
  }

  test('a password in a URL that is not expected to have one is not shown either', () => {
    expect(problemOf({ S3_ENDPOINT: `ftp://user:${SECRET}@host/x` })).toContain('S3_ENDPOINT="ftp://***@host/x"');
    expect(problemOf({ TRINO_URL: `trino://user:${SECRET}@host` })).not.toContain(SECRET);
  });
});
