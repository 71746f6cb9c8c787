import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findJava, freePorts, installed, installJars, run } from './install.ts';
import { exchange, hostAndPort } from './probe.ts';
import { launch } from './process.ts';
import type { Recipe, StartOptions } from './recipe.ts';

/** Apache Kafka in KRaft mode: one node, a plain listener, one with SASL and one with TLS. */
const NAME = 'kafka-4.1.0';
const JARS = [
  'org.apache.kafka:kafka_2.13:4.1.0',
  'org.apache.logging.log4j:log4j-slf4j-impl:2.24.3',
  'org.apache.logging.log4j:log4j-core:2.24.3',
];
const USER = 'pinflow';
const PASSWORD = 'pinflow-secret';
const LOGIN_MODULES = 'org.apache.kafka.common.security';

type Ports = { readonly plain: number; readonly controller: number; readonly sasl: number; readonly tls: number };

/** A certificate authority and the server's certificate for 127.0.0.1, in the folder: ca.pem and server.pem. */
const makeCertificates = async (folder: string): Promise<void> => {
  const path = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => run(['openssl', ...args]);
  const key = ['-newkey', 'rsa:2048', '-nodes', '-days', '2', '-sha256'];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-subj',
    '/CN=pinflow test CA',
    '-keyout',
    path('ca.key'),
    '-out',
    path('ca.pem'),
  );
  await openssl(
    'req',
    ...key.slice(0, 3),
    '-subj',
    '/CN=localhost',
    '-keyout',
    path('key.pem'),
    '-out',
    path('request.pem'),
  );
  await Bun.write(path('names.txt'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const signer = ['-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-CAcreateserial', '-extfile', path('names.txt')];
  await openssl('x509', '-req', '-days', '2', '-in', path('request.pem'), ...signer, '-out', path('certificate.pem'));
  const parts = await Promise.all(['key.pem', 'certificate.pem', 'ca.pem'].map((name) => Bun.file(path(name)).text()));
  await Bun.write(path('server.pem'), parts.join(''));
};

const properties = (folder: string, ports: Ports) => `
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${ports.controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:${ports.plain},CONTROLLER://127.0.0.1:${ports.controller},SASL://127.0.0.1:${ports.sasl},TLS://127.0.0.1:${ports.tls}
advertised.listeners=PLAIN://127.0.0.1:${ports.plain},SASL://127.0.0.1:${ports.sasl},TLS://127.0.0.1:${ports.tls}
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=${LOGIN_MODULES}.plain.PlainLoginModule required user_${USER}="${PASSWORD}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=${LOGIN_MODULES}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=${LOGIN_MODULES}.scram.ScramLoginModule required;
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location=${folder}/server.pem
log.dirs=${folder}/logs
# As on Redpanda: a topic exists because somebody made it.
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# A lone consumer need not wait for others to join.
group.initial.rebalance.delay.ms=0
`;

const java = () => findJava(17, 99);

const format = (config: string) => {
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((m) => [
    '--add-scram',
    `${m}=[name=${USER},password=${PASSWORD}]`,
  ]);
  // The first byte is 0, so that the id does not begin with a dash and is taken for an option.
  const id = Buffer.from(crypto.getRandomValues(new Uint8Array(16)).fill(0, 0, 1)).toString('base64url');
  const tool = ['-cp', `${installed(NAME)}/*`, 'kafka.tools.StorageTool', 'format', '-t', id, '-c', config];
  return run([java() ?? 'java', ...tool, ...scram]);
};

const start = async ({ folder, port }: StartOptions) => {
  const [plain = 0, controller = 0, sasl = 0, tls = 0] = await freePorts(4);
  const ports = { plain: port ?? plain, controller, sasl, tls };
  const config = join(folder, 'server.properties');
  await makeCertificates(folder);
  await Bun.write(config, properties(folder, ports));
  await format(config);
  const heap = ['-Xms256m', '-Xmx512m'];
  const pid = launch([java() ?? 'java', ...heap, '-cp', `${installed(NAME)}/*`, 'kafka.Kafka', config], folder);
  return {
    pid,
    settings: { KAFKA_BROKERS: `127.0.0.1:${ports.plain}` },
    extra: {
      saslBrokers: `127.0.0.1:${ports.sasl}`,
      saslUsername: USER,
      saslPassword: PASSWORD,
      tlsBrokers: `127.0.0.1:${ports.tls}`,
      tlsCaFile: join(folder, 'ca.pem'),
      // For other servers of a test, which then are as trusted.
      tlsKeyFile: join(folder, 'key.pem'),
      tlsCertificateFile: join(folder, 'certificate.pem'),
    },
  };
};

/** ApiVersions version 0, correlation id 7, client id "t". */
const API_VERSIONS = Buffer.from([0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 7, 0, 1, 0x74]);

export const kafka: Recipe = {
  name: 'kafka',
  needs: [],
  fromVariables: (env) => (env.TEST_KAFKA_BROKERS ? { KAFKA_BROKERS: env.TEST_KAFKA_BROKERS } : null),
  compose: { KAFKA_BROKERS: '127.0.0.1:9092' },
  answers: async (settings) => {
    const [first = ''] = (settings.KAFKA_BROKERS ?? '').split(',');
    const answer = await exchange(hostAndPort(first, 9092), API_VERSIONS);
    return answer !== null && answer.length >= 10 && answer.readInt32BE(4) === 7 && answer.readInt16BE(8) === 0;
  },
  missing: () => {
    if (java() === null) return 'Java 17 or newer';
    return existsSync(installed(NAME)) ? null : 'Apache Kafka 4.1.0 (43 MB from Maven)';
  },
  install: () => installJars(NAME, JARS),
  start,
  startTimeoutMs: 60_000,
};
