import { z } from 'zod';
import { SETTINGS, type SettingName } from './config.ts';
import { createMetrics } from './metrics.ts';

/** The reference pages that are made from the code: `bun run docs` writes them, and a test finds them stale. */

const FOLDER = new URL('../docs/', import.meta.url);
const NOTE = '<!-- Made by `bun run docs`: change the code it is made from, not this page. -->';

/** The setting each part of the page begins with. */
const PARTS: Readonly<Partial<Record<SettingName, string>>> = {
  HOST: 'The program and its edge',
  PIN_TOPIC: 'The log',
  S3_BUCKET: 'The archive',
  SCYLLA_CONTACT_POINTS: 'The batch view',
  DATABASE_URL: 'The speed view and the run ledger',
  TRINO_URL: 'SQL over the batch view',
  CLEAN_CRON: 'Batch runs',
  WORKERS_ARCHIVE: 'Threads',
};

const cell = (text: string): string => text.replaceAll('|', '\\|');
const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] =>
  [head, head.map(() => '---'), ...rows].map(row);

/** The range or the choice a setting allows, as far as its schema says; else nothing. */
const allowed = (name: SettingName): string => {
  const { schema } = SETTINGS[name];
  const { minimum, maximum } = z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' });
  if (minimum !== undefined && maximum !== undefined) {
    return `${minimum.toLocaleString('en-GB')} to ${maximum.toLocaleString('en-GB')}`;
  }
  const choices = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }).enum ?? [];
  return choices.map((choice) => `\`${choice}\``).join(', ');
};

const settingRow = (name: SettingName): readonly string[] => {
  const { fallback, doc, secret } = SETTINGS[name];
  const byDefault = fallback === null ? 'unset' : fallback === '' ? 'empty' : `\`${fallback}\``;
  return [`\`${name}\``, byDefault, allowed(name), secret ? `${doc} A secret: its value is never shown.` : doc];
};

/** docs/configuration.md */
export const configurationPage = (): string => {
  const parts: { readonly title: string; readonly names: SettingName[] }[] = [];
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const title = PARTS[name];
    if (title !== undefined) parts.push({ title, names: [] });
    parts.at(-1)?.names.push(name);
  }
  return [
    NOTE,
    '# Configuration',
    '',
    'Every setting is an environment variable. None has to be set: what is not there is embedded. A value that is wrong stops',
    'the start, with a message that names the variable and what it should be; `bun run doctor` tries them all against the engines.',
    'A variable set to nothing counts as unset.',
    '',
    ...parts.flatMap(({ title, names }) => [
      `## ${title}`,
      '',
      ...table(['Variable', 'Default', 'Values', 'What it is for'], names.map(settingRow)),
      '',
    ]),
  ].join('\n');
};

/** prom-client keeps label names on each metric and leaves them out of its types. */
type Described = {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
};

/** docs/metrics.md */
export const metricsPage = (): string => {
  const metrics = createMetrics().registry.getMetricsAsArray() as unknown as readonly Described[];
  const rows = metrics.map(({ name, help, type, labelNames }) => [
    `\`${name}\``,
    type,
    labelNames.map((label) => `\`${label}\``).join(', '),
    help,
  ]);
  return [
    NOTE,
    '# Metrics',
    '',
    '`GET /metrics` answers with these in the text format of Prometheus, merged over all threads of the process, beside the usual',
    '`process_*` ones. Each worker posts its own once a second, so a scrape waits for none of them.',
    '',
    ...table(['Name', 'Type', 'Labels', 'What it counts'], rows),
    '',
  ].join('\n');
};

/** File name under docs/ → its text. */
export const PAGES: Readonly<Record<string, () => string>> = {
  'configuration.md': configurationPage,
  'metrics.md': metricsPage,
};

export const pagePath = (name: string): URL => new URL(name, FOLDER);

if (import.meta.main) {
  for (const [name, page] of Object.entries(PAGES)) await Bun.write(pagePath(name), page());
}
