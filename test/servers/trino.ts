import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { downloadArtifact, findJava, freePorts, installed, installOnce, run } from './install.ts';
import { hostAndPort, httpGet } from './probe.ts';
import { launch } from './process.ts';
import type { Recipe, StartOptions } from './recipe.ts';

/** Trino, coordinator and worker in one, with the Cassandra of the tests as its catalog `cassandra`. */
const VERSION = '476';
const NAME = `trino-${VERSION}`;

/** The others are 750 MB. */
const PLUGINS = ['cassandra', 'memory'];

const install = () =>
  installOnce(NAME, async (folder) => {
    await downloadArtifact(`io.trino:trino-server:${VERSION}:tar.gz`, folder);
    const archive = join(folder, `trino-server-${VERSION}.tar.gz`);
    await run(['tar', 'xzf', archive, '-C', folder]);
    rmSync(archive);
    const unpacked = join(folder, `trino-server-${VERSION}`);
    const unused = readdirSync(join(unpacked, 'plugin')).filter((plugin) => !PLUGINS.includes(plugin));
    for (const plugin of unused) rmSync(join(unpacked, 'plugin', plugin), { recursive: true });
    for (const part of readdirSync(unpacked)) renameSync(join(unpacked, part), join(folder, part));
    rmSync(unpacked, { recursive: true });
  });

const writeConfiguration = async (folder: string, url: string, contactPoint: string) => {
  const cassandra = hostAndPort(contactPoint, 9042);
  await Bun.write(
    join(folder, 'etc/config.properties'),
    `coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port=${new URL(url).port}
discovery.uri=${url}
query.max-memory-per-node=300MB
`,
  );
  await Bun.write(
    join(folder, 'etc/catalog/cassandra.properties'),
    `connector.name=cassandra
cassandra.contact-points=${cassandra.host}
cassandra.native-protocol-port=${cassandra.port}
cassandra.load-policy.dc-aware.local-dc=datacenter1
`,
  );
};

const java = () => findJava(24, 99);

const start = async ({ folder, port, needed }: StartOptions) => {
  const [free = 0] = await freePorts(1);
  const url = `http://127.0.0.1:${port ?? free}`;
  const [contactPoint = ''] = (needed.CASSANDRA_CONTACT_POINTS ?? '').split(',');
  await writeConfiguration(folder, url, contactPoint);
  const home = installed(NAME);
  const pid = launch(
    [
      java() ?? 'java',
      '-Xmx1G',
      '-Djdk.attach.allowAttachSelf=true',
      '--add-modules=jdk.incubator.vector',
      '--enable-native-access=ALL-UNNAMED',
      `-Dconfig=${folder}/etc/config.properties`,
      '-Dnode.environment=test',
      '-Dnode.id=one',
      `-Dnode.data-dir=${folder}`,
      `-Dplugin.dir=${home}/plugin`,
      `-Dcatalog.config-dir=${folder}/etc/catalog`,
      '-Dlog.enable-console=true',
      '-cp',
      `${home}/lib/*`,
      'io.trino.server.TrinoServer',
    ],
    folder,
  );
  return { pid, settings: { TRINO_URL: url }, extra: {} };
};

export const trino: Recipe = {
  name: 'trino',
  needs: ['cassandra'],
  fromVariables: (env) => (env.TEST_TRINO_URL ? { TRINO_URL: env.TEST_TRINO_URL } : null),
  compose: { TRINO_URL: 'http://127.0.0.1:8080' },
  answers: async (settings) => {
    const info = await httpGet(`${settings.TRINO_URL}/v1/info`);
    return info?.includes('"starting":false') ?? false;
  },
  missing: () => {
    if (java() === null) return 'Java 24 or newer';
    return existsSync(installed(NAME)) ? null : `Trino ${VERSION} (820 MB from Maven)`;
  },
  install,
  start,
  startTimeoutMs: 180_000,
};
