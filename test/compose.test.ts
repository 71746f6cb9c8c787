import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DASHBOARDS } from '../monitoring/dashboards.ts';
import { readConfig, SETTINGS } from '../src/config.ts';

/** compose.yaml without a container engine: `docker-compose config` reads it, and its settings are ones the program knows. */
const root = join(import.meta.dir, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

type Service = {
  readonly image?: string;
  readonly build?: unknown;
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly mem_limit?: string;
  readonly depends_on?: Readonly<Record<string, { condition: string }>> | readonly string[];
  readonly healthcheck?: unknown;
};

const compose = Bun.YAML.parse(read('compose.yaml')) as {
  services: Readonly<Record<string, Service>>;
  volumes: object;
};
const services = Object.entries(compose.services);
const app = compose.services.app as Service;

const MIB: Readonly<Record<string, number>> = { m: 1, g: 1024 };
const mib = (limit = '0m') => Number.parseFloat(limit) * (MIB[limit.at(-1) as string] ?? 0);

describe('compose.yaml', () => {
  test('every variable of the app is a setting, and all of them together are right', () => {
    const environment = app.environment ?? {};
    expect(Object.keys(environment).filter((name) => !(name in SETTINGS))).toEqual([]);
    const plain = Object.fromEntries(
      Object.entries(environment).map(([name, value]) => [name, value.replace(/^\$\{\w+:-(.*)\}$/, '$1')]),
    );
    expect(readConfig(plain).KAFKA_BROKERS).toEqual(['redpanda:29092']);
  });

  test('images are pinned, ports are on loopback only, memory is limited and fits a 16 GB laptop', () => {
    for (const [name, service] of services) {
      if (service.build === undefined)
        expect([name, service.image]).toEqual([name, expect.stringMatching(/:v?\d+[\w.-]*$/)]);
      for (const port of service.ports ?? [])
        expect([name, port]).toEqual([name, expect.stringMatching(/^127\.0\.0\.1:/)]);
      expect([name, mib(service.mem_limit) > 0]).toEqual([name, true]);
    }
    expect(services.reduce((sum, [, service]) => sum + mib(service.mem_limit), 0)).toBeLessThan(11 * 1024);
  });

  test('the app waits until every server it writes to is healthy', () => {
    const waits = Object.entries(app.depends_on as Readonly<Record<string, { condition: string }>>);
    expect(waits.map(([name]) => name).sort()).toEqual(['cassandra', 'postgres', 'redpanda', 's3', 'scylla']);
    for (const [name, { condition }] of waits) {
      expect(condition).toBe('service_healthy');
      expect(compose.services[name]?.healthcheck).toBeDefined();
    }
  });

  test('profile core is enough to run, and every file it mounts is in the repository', () => {
    const core = services.filter(([, service]) => service.profiles?.includes('core')).map(([name]) => name);
    expect(core.sort()).toEqual(['app', 'cassandra', 'postgres', 'redpanda', 's3', 'scylla']);
    const mounted = services
      .flatMap(([, service]) => service.volumes ?? [])
      .map((volume) => volume.split(':')[0] as string);
    const [files, named] = [mounted.filter((v) => v.startsWith('.')), mounted.filter((v) => !v.startsWith('.'))];
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(named.filter((name) => !(name in compose.volumes))).toEqual([]);
  });

  describe('monitoring', () => {
    const volumesOf = (name: string) => compose.services[name]?.volumes ?? [];
    const yaml = (path: string) => Bun.YAML.parse(read(path));

    test('Prometheus has its settings and rules where the settings look for them, and asks services that are there', () => {
      expect(volumesOf('prometheus')).toContain('./monitoring/prometheus.yaml:/etc/prometheus/prometheus.yml:ro');
      expect(volumesOf('prometheus')).toContain('./monitoring/rules:/etc/prometheus/rules:ro');
      const { rule_files, scrape_configs } = yaml('monitoring/prometheus.yaml') as {
        readonly rule_files: readonly string[];
        readonly scrape_configs: readonly {
          readonly authorization?: { readonly credentials: string };
          readonly static_configs: readonly { readonly targets: readonly string[] }[];
        }[];
      };
      expect(rule_files).toEqual(['rules/*.yaml']);
      const hosts = scrape_configs.flatMap(({ static_configs }) =>
        static_configs.flatMap(({ targets }) => targets.map((target) => target.split(':')[0] as string)),
      );
      expect(hosts.filter((host) => host !== '127.0.0.1' && !(host in compose.services))).toEqual([]);
      const key = scrape_configs.flatMap(({ authorization }) => authorization?.credentials ?? [])[0];
      expect(app.environment?.API_KEYS).toContain(`:${key}}`);
    });

    test('Grafana finds its dashboards and its data sources, and opens with the overview', () => {
      expect(volumesOf('grafana')).toContain('./monitoring/grafana:/etc/grafana/provisioning:ro');
      const provisioned = (path: string) => path.replace('/etc/grafana/provisioning', 'monitoring/grafana');
      const { providers } = yaml('monitoring/grafana/dashboards/pinflow.yaml') as {
        readonly providers: readonly { readonly options: { readonly path: string } }[];
      };
      const places = providers.map(({ options }) => options.path);
      places.push(compose.services.grafana?.environment?.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH ?? '');
      for (const place of places) expect([place, existsSync(join(root, provisioned(place)))]).toEqual([place, true]);
      const { datasources } = yaml('monitoring/grafana/datasources/pinflow.yaml') as {
        readonly datasources: readonly { readonly uid: string; readonly type: string; readonly url: string }[];
      };
      for (const { url } of datasources) {
        expect(compose.services[url.replace('http://', '').split(':')[0] as string]).toBeDefined();
      }
      const known = datasources.map(({ uid, type }) => ({ type, uid }));
      for (const { panels } of Object.values(DASHBOARDS)) {
        for (const { datasource } of panels) expect(known).toContainEqual(datasource);
      }
    });

    test('who reads Postgres for Grafana and Prometheus comes in as a role of its own', () => {
      expect(volumesOf('postgres')).toContain('./monitoring/postgres:/docker-entrypoint-initdb.d:ro');
      const roles = read('monitoring/postgres/roles.sql');
      const exporter = new URL(compose.services['postgres-exporter']?.environment?.DATA_SOURCE_NAME ?? '');
      expect(roles).toContain(
        `CREATE ROLE ${exporter.username} LOGIN PASSWORD '${exporter.password}' IN ROLE pg_monitor;`,
      );
      const [, grafana] = (yaml('monitoring/grafana/datasources/pinflow.yaml') as { datasources: { user?: string }[] })
        .datasources;
      expect(roles).toContain(`CREATE ROLE ${grafana?.user} LOGIN `);
    });
  });

  test('no container runs the broker in a mode whose acks are not on disk', () => {
    expect(read('compose.yaml')).not.toMatch(/^\s*-\s*--mode/m);
  });

  const dockerCompose = Bun.which('docker-compose');
  test.skipIf(dockerCompose === null)('docker-compose reads it', async () => {
    const child = Bun.spawn([dockerCompose as string, '-f', join(root, 'compose.yaml'), 'config', '-q'], {
      stderr: 'pipe',
    });
    const problems = await new Response(child.stderr).text();
    expect([await child.exited, problems]).toEqual([0, '']);
  });
});

test('the image runs as another user than root, takes SIGTERM itself and tells its health', () => {
  const dockerfile = read('Dockerfile');
  expect(dockerfile).toMatch(/^USER bun$/m);
  expect(dockerfile).toMatch(/^ENTRYPOINT \["bun", "src\/cli\.ts"\]$/m);
  expect(dockerfile).toMatch(/^HEALTHCHECK /m);
  for (const [, source] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const path of (source as string).split(' '))
      expect([path, existsSync(join(root, path))]).toEqual([path, true]);
  }
});
