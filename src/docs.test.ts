import { describe, expect, test } from 'bun:test';
import { SETTINGS } from './config.ts';
import { configurationPage, metricsPage, PAGES, pagePath } from './docs.ts';
import { createMetrics } from './metrics.ts';

for (const [name, page] of Object.entries(PAGES)) {
  test(`docs/${name} is what the code says; if not: bun run docs`, async () => {
    expect(await Bun.file(pagePath(name)).text()).toBe(page());
  });
}

describe('the pages', () => {
  const rowsOf = (page: string, name: string) => page.split('\n').filter((line) => line.startsWith(`| \`${name}\` |`));

  test('each setting has one row', () => {
    for (const name of Object.keys(SETTINGS)) expect(rowsOf(configurationPage(), name)).toHaveLength(1);
  });

  test('a row has the default, the range and whether it is a secret', () => {
    expect(rowsOf(configurationPage(), 'PORT')[0]).toStartWith('| `PORT` | `8000` | 0 to 65,535 | ');
    expect(rowsOf(configurationPage(), 'KAFKA_TLS')[0]).toStartWith('| `KAFKA_TLS` | `false` | `true`, `false` | ');
    expect(rowsOf(configurationPage(), 'DATABASE_URL')[0]).toStartWith('| `DATABASE_URL` | unset |  | ');
    expect(rowsOf(configurationPage(), 'DATABASE_URL')[0]).toContain('never shown');
    expect(rowsOf(configurationPage(), 'HOST')[0]).not.toContain('never shown');
  });

  test('each metric has one row, with its labels', async () => {
    const names = (await createMetrics().registry.getMetricsAsJSON()).map((metric) => metric.name);
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) expect(rowsOf(metricsPage(), name)).toHaveLength(1);
    expect(rowsOf(metricsPage(), 'pinflow_edge_requests_total')[0]).toContain('| counter | `route`, `status` |');
  });
});
