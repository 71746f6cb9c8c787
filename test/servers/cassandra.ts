import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findJava, freePorts, installed, installJars } from './install.ts';
import { exchange, hostAndPort } from './probe.ts';
import { launch } from './process.ts';
import type { Recipe, StartOptions } from './recipe.ts';

/** Apache Cassandra, one node; it stands in for ScyllaDB on the same protocol. */
const NAME = 'cassandra-5.0.5';

/** JDK internals Cassandra reaches into, by module; the same list as in its own jvm17-server.options. */
const INTERNALS: Readonly<Record<string, readonly string[]>> = {
  'java.base': [
    'java.io',
    'java.lang',
    'java.lang.ref',
    'java.lang.reflect',
    'java.net',
    'java.nio',
    'java.util',
    'java.util.concurrent',
    'java.util.concurrent.atomic',
    'jdk.internal.loader',
    'jdk.internal.math',
    'jdk.internal.misc',
    'jdk.internal.module',
    'jdk.internal.ref',
    'jdk.internal.reflect',
    'jdk.internal.util.jar',
    'sun.net',
    'sun.nio.ch',
  ],
  'java.management': ['com.sun.jmx.mbeanserver'],
  'java.management.rmi': ['com.sun.jmx.remote.internal.rmi'],
  'java.rmi': ['sun.rmi.registry', 'sun.rmi.server', 'sun.rmi.transport.tcp'],
  'java.sql': ['java.sql'],
  'jdk.management': ['com.sun.management.internal'],
  'jdk.unsupported': ['sun.misc'],
};

const opened = Object.entries(INTERNALS).flatMap(([module, packages]) =>
  packages.flatMap((name) => ['exports', 'opens'].map((how) => `--add-${how}=${module}/${name}=ALL-UNNAMED`)),
);

const yaml = (folder: string, port: number, storage: number, storageTls: number) => `
cluster_name: pinflow-test
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: ${port}
storage_port: ${storage}
ssl_storage_port: ${storageTls}
commitlog_sync: periodic
commitlog_sync_period: 1000ms
data_file_directories: [${folder}/data]
commitlog_directory: ${folder}/commitlog
saved_caches_directory: ${folder}/saved
hints_directory: ${folder}/hints
cdc_raw_directory: ${folder}/cdc
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{ seeds: "127.0.0.1:${storage}" }]
`;

const LOGBACK = `<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d %-5level %msg%n</pattern></encoder></appender><root level="INFO"><appender-ref ref="out"/></root></configuration>`;

const java = () => findJava(17, 17);

const start = async ({ folder, port }: StartOptions) => {
  const [free = 0, storage = 0, storageTls = 0] = await freePorts(3);
  const native = port ?? free;
  await Bun.write(join(folder, 'cassandra.yaml'), yaml(folder, native, storage, storageTls));
  await Bun.write(join(folder, 'logback.xml'), LOGBACK);
  const jars = installed(NAME);
  const pid = launch(
    [
      java() ?? 'java',
      '-Xms768m',
      '-Xmx768m',
      '-Xss512k',
      ...opened,
      '-Djdk.attach.allowAttachSelf=true',
      `-javaagent:${jars}/jamm-0.4.0.jar`,
      `-Dcassandra.config=file://${folder}/cassandra.yaml`,
      `-Dcassandra.storagedir=${folder}`,
      `-Dlogback.configurationFile=${folder}/logback.xml`,
      // Alone in its cluster: nobody to wait for.
      '-Dcassandra.skip_wait_for_gossip_to_settle=0',
      '-Dcassandra.ring_delay_ms=0',
      '-Dcassandra.superuser_setup_delay_ms=0',
      '-Dcassandra.jmx.local.port=0',
      '-Dcassandra-foreground=yes',
      '-cp',
      `${jars}/*`,
      'org.apache.cassandra.service.CassandraDaemon',
    ],
    folder,
  );
  const settings = { CASSANDRA_CONTACT_POINTS: `127.0.0.1:${native}`, CASSANDRA_DATACENTER: 'datacenter1' };
  return { pid, settings, extra: {} };
};

/** OPTIONS of the native protocol, version 4; answered by SUPPORTED (opcode 6). */
const OPTIONS = Buffer.from([4, 0, 0, 0, 5, 0, 0, 0, 0]);

export const cassandra: Recipe = {
  name: 'cassandra',
  needs: [],
  fromVariables: (env) =>
    env.TEST_CASSANDRA_CONTACT_POINTS
      ? {
          CASSANDRA_CONTACT_POINTS: env.TEST_CASSANDRA_CONTACT_POINTS,
          CASSANDRA_DATACENTER: env.TEST_CASSANDRA_DATACENTER || 'datacenter1',
        }
      : null,
  compose: { CASSANDRA_CONTACT_POINTS: '127.0.0.1:9042', CASSANDRA_DATACENTER: 'datacenter1' },
  answers: async (settings) => {
    const [first = ''] = (settings.CASSANDRA_CONTACT_POINTS ?? '').split(',');
    const answer = await exchange(hostAndPort(first, 9042), OPTIONS);
    return answer !== null && answer.length >= 9 && answer[4] === 6;
  },
  missing: () => {
    if (java() === null) return 'Java 17';
    return existsSync(installed(NAME)) ? null : 'Apache Cassandra 5.0.5 (66 MB from Maven)';
  },
  install: () => installJars(NAME, ['org.apache.cassandra:cassandra-all:5.0.5']),
  start,
  startTimeoutMs: 180_000,
};
