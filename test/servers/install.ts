import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { cacheFolder, testVariables } from './settings.ts';

/** Longest a download or a build may take, milliseconds: Trino is 820 MB, versitygw compiles for two minutes. */
const COMMAND_TIMEOUT_MS = 15 * 60_000;

/** Runs a command to its end. @throws Error with the last lines of its output when it fails */
export const run = async (command: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> => {
  const child = Bun.spawn([...command], {
    env: { ...testVariables(), ...env },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: COMMAND_TIMEOUT_MS,
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code === 0) return out;
  const tail = `${out}\n${err}`.trim().split('\n').slice(-15).join('\n');
  throw new Error(`${command.slice(0, 3).join(' ')} … ended with ${code}:\n${tail}`);
};

/** Debian's packages of these names. @throws Error when this user may not */
export const installPackages = async (...names: readonly string[]): Promise<void> => {
  if (process.getuid?.() !== 0) throw new Error(`install the packages first, this needs root: ${names.join(' ')}`);
  const quietly = { DEBIAN_FRONTEND: 'noninteractive' };
  await run(['apt-get', 'update', '-qq'], quietly);
  await run(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...names], quietly);
};

/** Where an installed thing of this name stands in the cache. */
export const installed = (name: string): string => join(cacheFolder(), name);

/** Fills a folder of the cache all or not at all: `fill` works in a temporary one beside it. */
export const installOnce = async (name: string, fill: (folder: string) => Promise<void>): Promise<void> => {
  if (existsSync(installed(name))) return;
  const unfinished = `${installed(name)}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  await fill(unfinished);
  renameSync(unfinished, installed(name));
};

const MAVEN_DEPENDENCY = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1';

const dependency = (coordinate: string) => {
  const [group, artifact, version] = coordinate.split(':');
  return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
};

/** The jars of these Maven artifacts and all they need. @param coordinates `group:artifact:version` */
export const installJars = (name: string, coordinates: readonly string[]): Promise<void> =>
  installOnce(name, async (folder) => {
    const pom = join(folder, 'pom.xml');
    const head =
      '<modelVersion>4.0.0</modelVersion><groupId>test</groupId><artifactId>servers</artifactId><version>1</version>';
    await Bun.write(
      pom,
      `<project>${head}<dependencies>${coordinates.map(dependency).join('')}</dependencies></project>`,
    );
    await run(['mvn', '-q', '-B', '-f', pom, `${MAVEN_DEPENDENCY}:copy-dependencies`, `-DoutputDirectory=${folder}`]);
  });

/** One file of a Maven artifact, copied into `folder`. @param coordinate `group:artifact:version:type` */
export const downloadArtifact = async (coordinate: string, folder: string): Promise<void> => {
  // A repository of its own, removed afterwards: the user's would keep a second copy of a very large file.
  const repository = join(folder, 'repository');
  await run([
    'mvn',
    '-q',
    '-B',
    `-Dmaven.repo.local=${repository}`,
    `${MAVEN_DEPENDENCY}:copy`,
    `-Dartifact=${coordinate}`,
    `-DoutputDirectory=${folder}`,
  ]);
  rmSync(repository, { recursive: true, force: true });
};

const majorOf = (java: string): number => {
  try {
    const { stderr } = Bun.spawnSync([java, '-version'], { stdout: 'ignore', stderr: 'pipe' });
    return Number(/version "(\d+)/.exec(stderr.toString())?.[1] ?? 0);
  } catch {
    return 0;
  }
};

const jvmFolder = '/usr/lib/jvm';

/**
 * A Java of a major version in this range: JAVA_HOME_<major>_X64 (as CI sets it), JAVA_HOME, `java`, then /usr/lib/jvm.
 * @returns the path of the executable, or null
 */
export const findJava = (least: number, most: number): string | null => {
  const env = testVariables();
  const homes = [
    ...Object.keys(env)
      .filter((name) => /^JAVA_HOME(_\d+_[A-Z0-9]+)?$/.test(name))
      .flatMap((name) => env[name] ?? []),
    ...(existsSync(jvmFolder) ? readdirSync(jvmFolder).map((name) => join(jvmFolder, name)) : []),
  ];
  const candidates = ['java', ...homes.map((home) => join(home, 'bin', 'java'))];
  return candidates.find((java) => majorOf(java) >= least && majorOf(java) <= most) ?? null;
};

/** The folder of PostgreSQL's programs, the newest version installed; null when there is none. */
export const findPostgres = (): string | null => {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const bin = versions.map((v) => join(debian, v, 'bin')).find((folder) => existsSync(join(folder, 'initdb')));
  const inPath = Bun.which('initdb');
  return bin ?? (inPath === null ? null : dirname(inPath));
};

/**
 * Below the range from which systems take the ports of outgoing connections: one of those could sit on the port just before
 * the server comes to it.
 */
const LEAST_PORT = 15_000;
const MOST_PORT = 32_000;
const PORT_ATTEMPTS = 50;

const listenSomewhere = async (): Promise<Server> => {
  for (let attempt = 1; ; attempt++) {
    const server = createServer();
    const port = LEAST_PORT + Math.floor(Math.random() * (MOST_PORT - LEAST_PORT));
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(port, '127.0.0.1', listening.resolve);
    try {
      await listening.promise;
      return server;
    } catch (error) {
      if (attempt >= PORT_ATTEMPTS) throw error;
    }
  }
};

/** Ports nobody listens on, all different: they are held together before they are given back. */
export const freePorts = async (count: number): Promise<readonly number[]> => {
  const servers = await Promise.all(Array.from({ length: count }, listenSomewhere));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
};
