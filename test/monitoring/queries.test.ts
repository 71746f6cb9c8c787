import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgresJs from 'postgres';
import { DASHBOARDS, dashboardText } from '../../monitoring/dashboards.ts';
import { readConfig } from '../../src/config.ts';
import { openLog } from '../../src/log/open.ts';
import { createLogger } from '../../src/logger.ts';
import { eventually, type Running, startProgram } from '../e2e/program.ts';
import { freshDatabase } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { testTool } from '../servers/tools.ts';
import { type Child, query, startPostgresExporter, startPrometheus } from './prometheus.ts';
import { ROOT, readRules, readText, selectorsOf } from './promql.ts';

/**
 * A real Prometheus, with the scrape settings and rules of monitoring/, on the real program under a little load: every query of
 * every dashboard and rule answers with data. Grafana itself cannot run here; what it would ask is asked for it.
 */
setDefaultTimeout(120_000);

const tools = {
  prometheus: await testTool('prometheus'),
  promtool: await testTool('promtool'),
  exporter: await testTool('prometheus-postgres-exporter'),
};
const postgres = await testServer('postgres');
const missing = [...Object.values(tools), postgres].some((one) => 'skip' in one);

const API_KEY = 'pinflow-laptop-key';
/** Twice the scrape interval here is the least that has a rate. */
const RATE_INTERVAL = '10s';
const SETTLE_MS = 60_000;
const PINS_PER_POST = 50;

type Target = { readonly expr?: string; readonly rawSql?: string };
const targets = Object.values(DASHBOARDS).flatMap(({ title, panels }) =>
  panels.flatMap((panel) =>
    (panel.targets as readonly Target[]).map((target) => ({ ...target, name: `${title}: ${panel.title}` })),
  ),
);
const panelQueries = targets.flatMap(({ name, expr }) =>
  expr === undefined ? [] : { name, expr: expr.replaceAll('$__rate_interval', RATE_INTERVAL) },
);
const panelSql = targets.flatMap(({ name, rawSql }) => (rawSql === undefined ? [] : { name, sql: rawSql }));

/** prometheus.yaml, asking often, and at the places of this test. */
const scrapeSettings = (at: Readonly<Record<string, string>>): string => {
  type Job = { readonly job_name: string; readonly static_configs: readonly { targets: readonly string[] }[] };
  const settings = Bun.YAML.parse(readText('monitoring/prometheus.yaml')) as {
    readonly rule_files: readonly string[];
    readonly scrape_configs: readonly Job[];
  };
  return JSON.stringify({
    ...settings,
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: settings.rule_files.map((file) => join(ROOT, 'monitoring', file)),
    scrape_configs: settings.scrape_configs.flatMap((job) => {
      const place = at[job.job_name];
      return place === undefined ? [] : { ...job, static_configs: [{ targets: [new URL(place).host] }] };
    }),
  });
};

test('the dashboards are what monitoring/dashboards.ts says; if not: bun run docs', () => {
  for (const [name, content] of Object.entries(DASHBOARDS)) {
    expect(readText(`monitoring/grafana/dashboards/${name}`)).toBe(dashboardText(content));
  }
  expect(panelQueries.length).toBeGreaterThan(60);
});

describe.skipIf(missing)('every query answers with data', () => {
  const fixture = readText('test/fixtures/pins.ndjson').trim().split('\n');
  let dir: string;
  let dropDatabase: () => Promise<void>;
  let program: Running;
  let exporter: Child;
  let prometheus: Child;
  let databaseUrl: string;
  let posting = true;
  let posted: Promise<void>;

  const post = (path: string, body: string, type = 'application/x-ndjson') =>
    fetch(`${program.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': type, authorization: `Bearer ${API_KEY}` },
      body,
    });

  /** Pins, an input that is none and, every so often, more at once than the edge may hold. */
  const postOnAndOn = async () => {
    const large = fixture[0]?.replace('{', `{"padding":"${'x'.repeat(700_000)}",`) ?? '';
    for (let round = 0; posting; round++) {
      const at = (round * PINS_PER_POST) % fixture.length;
      await post('/pins', fixture.slice(at, at + PINS_PER_POST).join('\n'));
      await post('/pin/', '{', 'application/json');
      if (round % 10 === 0)
        await Promise.all(Array.from({ length: 5 }, () => post('/pin/', large, 'application/json')));
      await Bun.sleep(100);
    }
  };

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'pinflow-monitoring-'));
    const database = await freshDatabase(postgres.settings);
    [databaseUrl, dropDatabase] = [database.url, database.drop];
    const env = {
      ...database.settings,
      DATA_DIR: dir,
      API_KEYS: `laptop:${API_KEY}`,
      ARCHIVE_MAX_SECONDS: '1',
      CLEAN_CRON: '*/2 * * * * *',
      RECONCILE_CRON: '*/5 * * * * *',
      MAX_PENDING_BYTES: String(1024 * 1024),
    };
    program = await startProgram(env);
    // Under load the places are never equal, and a reconcile waits for that: its first one comes before.
    await eventually('a reconcile', SETTLE_MS, async () => {
      const page = await fetch(`${program.url}/metrics`, { headers: { authorization: `Bearer ${API_KEY}` } });
      return (await page.text()).includes('pinflow_reconcile_different_pins{') ? true : null;
    });
    const log = await openLog(readConfig(env), { logger: createLogger('silent', 'test') });
    await log.append([{ key: 'x', value: new TextEncoder().encode('not JSON') }]);
    await log.close();
    posted = postOnAndOn();
    exporter = await startPostgresExporter(tools.exporter.path, databaseUrl);
    const at = { pinflow: program.url, postgres: exporter.url };
    prometheus = await startPrometheus(tools.prometheus.path, scrapeSettings(at));
  });

  afterAll(async () => {
    posting = false;
    await posted?.catch(() => {});
    await prometheus?.stop();
    await exporter?.stop();
    await program?.kill('SIGTERM');
    await dropDatabase?.();
    rmSync(dir, { recursive: true, force: true });
  });

  const withoutData = async (queries: readonly { readonly name: string; readonly expr: string }[]) => {
    const empty: string[] = [];
    for (const { name, expr } of queries) {
      const samples = await query(prometheus, expr);
      if (!samples.some(({ value }) => Number.isFinite(Number(value[1])))) empty.push(`${name}: ${expr}`);
    }
    return empty;
  };

  /** Waits until all have data; says which have none. */
  const expectData = async (queries: readonly { readonly name: string; readonly expr: string }[]) => {
    const deadline = Date.now() + SETTLE_MS;
    let empty = await withoutData(queries);
    while (empty.length > 0 && Date.now() < deadline) {
      await Bun.sleep(500);
      empty = await withoutData(queries);
    }
    expect(empty).toEqual([]);
  };

  test('of the dashboards', () => expectData(panelQueries));

  test('of the recording rules', () =>
    expectData(readRules().flatMap(({ record }) => (record === undefined ? [] : { name: 'rule', expr: record }))));

  test('of the alerts: each series they look at is there', () =>
    expectData(
      readRules().flatMap(({ alert, expr }) =>
        alert === undefined ? [] : selectorsOf(expr).map((selector) => ({ name: alert, expr: selector })),
      ),
    ));

  test('and alerts come: on what the edge refused, and on what is in the dead letter queue', async () => {
    const names = ['PinflowEdgeRefusing', 'PinflowDlqNotEmpty'];
    await expectData(names.map((name) => ({ name, expr: `ALERTS{alertname="${name}"}` })));
  });

  test('promtool finds nothing to say about the page', async () => {
    const page = await fetch(`${program.url}/metrics`, { headers: { authorization: `Bearer ${API_KEY}` } });
    const promtool = Bun.spawn([tools.promtool.path, 'check', 'metrics'], {
      stdin: new Response(await page.text()),
      stdout: 'pipe',
      stderr: 'pipe',
    });
    const said = (await new Response(promtool.stdout).text()) + (await new Response(promtool.stderr).text());
    expect([await promtool.exited, said]).toEqual([0, '']);
  });

  test('every metric of the page is in docs/metrics.md', async () => {
    const page = await fetch(`${program.url}/metrics`, { headers: { authorization: `Bearer ${API_KEY}` } });
    const names = [...(await page.text()).matchAll(/^# TYPE (pinflow_\w+)/gm)].map(([, name]) => name as string);
    const documented = readText('docs/metrics.md');
    expect(names.length).toBeGreaterThan(30);
    expect(names.filter((name) => !documented.includes(`| \`${name}\` |`))).toEqual([]);
  });

  test('of the SQL panels, as the role that may only read', async () => {
    const sql = postgresJs(databaseUrl, { max: 1, onnotice: () => {} });
    const rolledBack = new Error('not to be kept');
    const attempt = sql.begin(async (tx) => {
      const [known] = await tx`SELECT 1 FROM pg_roles WHERE rolname = 'grafana'`;
      if (known === undefined) await tx.unsafe(readText('monitoring/postgres/roles.sql'));
      await tx.unsafe('SET LOCAL ROLE grafana');
      for (const { name, sql: statement } of panelSql) {
        const rows = await tx.unsafe(statement);
        expect([name, rows.length > 0]).toEqual([name, true]);
      }
      const write = tx.savepoint((inner) => inner`DELETE FROM pins`);
      expect(await write.catch((error: Error) => error.message)).toContain('permission denied');
      throw rolledBack;
    });
    expect(await attempt.catch((error: unknown) => error)).toBe(rolledBack);
    await sql.end();
  });
});
