import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { createMetrics } from '../../src/metrics.ts';
import { testTool } from '../servers/tools.ts';
import { metricOf, ROOT, readRules, readText, selectorsOf } from './promql.ts';

setDefaultTimeout(60_000);

/** The rules of monitoring/rules: what promtool says of them, and that each alert leads a person somewhere. */
const promtool = await testTool('promtool');
const rules = readRules();
const alerts = rules.filter((rule) => rule.alert !== undefined);
const runbook = readText('docs/runbook.md');
const entries = [...runbook.matchAll(/^## (.+)$/gm)].map(([, name]) => name as string);

const run = async (...args: readonly string[]) => {
  const child = Bun.spawn([promtool.path, ...args], { cwd: ROOT, stdout: 'pipe', stderr: 'pipe' });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output: out + err };
};

describe.skipIf('skip' in promtool)('promtool', () => {
  test('every alert fires on what it is for, and not on what is near it', async () => {
    expect(await run('test', 'rules', join('test', 'monitoring', 'rules.yaml'))).toMatchObject({ code: 0 });
  });

  test('the scrape settings and the rules they name are right', async () => {
    const { code, output } = await run('check', 'config', join('monitoring', 'prometheus.yaml'));
    expect([code, output]).toEqual([0, expect.stringContaining('2 rule files found')]);
  });
});

describe('each alert', () => {
  test('is told of in the runbook, which tells of no others', () => {
    expect(entries).toEqual(alerts.map(({ alert }) => alert as string));
  });

  test('points to its entry, says how bad it is and what it means', () => {
    for (const { alert, labels, annotations } of alerts) {
      expect(annotations?.runbook_url).toBe(`docs/runbook.md#${alert?.toLowerCase()}`);
      expect([alert, labels?.severity]).toEqual([alert, expect.stringMatching(/^(critical|warning)$/)]);
      expect(annotations?.summary).toBeTruthy();
      expect(annotations?.description).toBeTruthy();
    }
  });

  test('has a unit test in which it fires', () => {
    const { tests } = Bun.YAML.parse(readText('test/monitoring/rules.yaml')) as {
      readonly tests: readonly {
        readonly alert_rule_test?: readonly { readonly alertname: string; readonly exp_alerts: readonly unknown[] }[];
      }[];
    };
    const fired = tests
      .flatMap(({ alert_rule_test }) => alert_rule_test ?? [])
      .filter(({ exp_alerts }) => exp_alerts.length > 0);
    expect(fired.map(({ alertname }) => alertname).sort()).toEqual(alerts.map(({ alert }) => alert as string).sort());
  });

  test('has an entry that says what it means, where to look and what to do', () => {
    for (const entry of runbook.split(/^## /m).slice(1)) {
      for (const part of ['**Means** ', '**Look** ', '**Do** ']) expect(entry).toContain(part);
    }
  });
});

describe('the metrics the rules ask for', () => {
  const known = createMetrics().registry.getMetricsAsArray() as unknown as readonly { name: string; type: string }[];
  const names = new Set(known.map(({ name }) => name));
  const histograms = new Set(known.flatMap(({ name, type }) => (type === 'histogram' ? name : [])));
  const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
  /** Of Prometheus itself and of postgres-exporter. */
  const foreign = new Set(['up', 'pg_up']);

  test('are there', () => {
    const asked = rules.flatMap(({ expr }) => selectorsOf(expr)).map((selector) => metricOf(selector, histograms));
    expect(asked.length).toBeGreaterThan(20);
    expect(asked.filter((name) => !names.has(name) && !recorded.has(name) && !foreign.has(name))).toEqual([]);
  });

  test('are found in an expression', () => {
    expect(
      selectorsOf(
        'histogram_quantile(0.99, sum by (job, le) (rate(a_b_bucket{x="y",z=~"(p|q).*"}[5m] offset 5m))) > 0.5 and on (job) up == 0 # c',
      ),
    ).toEqual(['a_b_bucket{x="y",z=~"(p|q).*"}', 'up']);
  });
});
