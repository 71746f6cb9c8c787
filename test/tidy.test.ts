import { describe, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/**
 * The rules of this repository that no linter knows. Each is a function from files to what is wrong with them; it is asked
 * about the real files, and about some that break it, so that a rule which finds nothing is known to look.
 */
type Files = ReadonlyMap<string, string>;

const ROOT = join(import.meta.dir, '..');

const readRepository = async (): Promise<Files> => {
  const listed = Bun.spawnSync(['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: ROOT });
  const paths = listed.stdout
    .toString()
    .split('\0')
    .filter((path) => path !== '' && existsSync(join(ROOT, path)));
  return new Map(
    await Promise.all(paths.toSorted().map(async (path) => [path, await Bun.file(join(ROOT, path)).text()] as const)),
  );
};

const repository = await readRepository();

/** Source that ships: what tests import may be wider. */
const isSource = (path: string): boolean =>
  /^src\/.*\.tsx?$/.test(path) && !/\.test\.tsx?$|\.d\.ts$|(^|[./-])(contract|fixture)\b[^/]*$/.test(path);

const sources = (files: Files): readonly (readonly [string, string])[] => [...files].filter(([path]) => isSource(path));

/** What a module imports, types included: './x.ts', 'kafkajs', 'node:fs'. */
const importsOf = (text: string): readonly string[] =>
  [...text.matchAll(/^(?:import|export)\s[^;]*?\sfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gms)].map(
    (match) => match[1] ?? match[2] ?? match[3] ?? '',
  );

/** What may be used everywhere but in src/pin, which is pure. */
const SHARED = ['clock.ts', 'config.ts', 'errors.ts', 'logger.ts', 'metrics.ts', 'retry.ts', 'tracing', 'turns.ts'];
const PORTS = ['log', 'blob', 'db'];
const ENGINES = ['pin', ...PORTS, 'data-dir.ts', 'engines.ts'];

/** Every folder and top-level file of src, and the others it may import: `pin ← log, blob, db ← edge, workers ← supervisor ← cli`. */
const MAY_KNOW: Readonly<Record<string, readonly string[]>> = {
  pin: [],
  'errors.ts': [],
  'clock.ts': [],
  'metrics.ts': [],
  'retry.ts': ['errors.ts'],
  'turns.ts': [],
  tracing: ['config.ts', 'errors.ts', 'retry.ts'],
  'config.ts': ['errors.ts'],
  'logger.ts': ['config.ts'],
  log: ['pin', ...SHARED],
  blob: ['pin', ...SHARED],
  db: ['pin', ...SHARED],
  'schedule.ts': SHARED,
  edge: ['pin', ...PORTS, ...SHARED],
  workers: ['pin', ...PORTS, 'schedule.ts', 'thread-metrics.ts', ...SHARED],
  'supervisor.ts': ['workers', ...SHARED],
  'table.ts': [],
  'counts.ts': [],
  'docs.ts': SHARED,
  'data-dir.ts': SHARED,
  emulator: ['pin', ...SHARED],
  'emulator.ts': ['emulator', ...SHARED],
  'engines.ts': ['pin', ...PORTS, 'data-dir.ts', ...SHARED],
  'dead-letters.ts': ['pin', ...PORTS, ...SHARED],
  'query-child.ts': ['db', 'table.ts', ...SHARED],
  'query-box.ts': ['db', 'edge', 'query-child.ts', ...SHARED],
  'edge-lookups.ts': [...PORTS, 'edge', 'dead-letters.ts', 'query-box.ts', ...SHARED],
  'pipeline-status.ts': ['edge', 'workers', 'supervisor.ts', 'counts.ts', ...SHARED],
  'reconcile.ts': ['pin', ...PORTS, 'reconcile-ids.ts', ...SHARED],
  'reconcile-ids.ts': PORTS,
  'reconcile-child.ts': ['engines.ts', 'reconcile.ts', ...SHARED],
  'reconcile-schedule.ts': ['reconcile-child.ts', 'schedule.ts', ...SHARED],
  'dry-run-child.ts': ['blob', 'workers', ...SHARED],
  'dry-run-pool.ts': ['dry-run-child.ts', 'workers', ...SHARED],
  'journey.ts': ['pin', ...PORTS, 'edge', ...SHARED],
  'thread-metrics.ts': ['metrics.ts'],
  'gauges.ts': ['pin', ...PORTS, ...SHARED],
  'program.ts': [
    ...ENGINES,
    'edge',
    'workers',
    'supervisor.ts',
    'counts.ts',
    'edge-lookups.ts',
    'pipeline-status.ts',
    'journey.ts',
    'gauges.ts',
    'reconcile-schedule.ts',
    'schedule.ts',
    'thread-metrics.ts',
    ...SHARED,
  ],
  chaos: ['pin', ...PORTS, 'emulator', 'workers', ...SHARED],
  commands: [
    ...ENGINES,
    'chaos',
    'workers',
    'program.ts',
    'counts.ts',
    'dead-letters.ts',
    'dry-run-pool.ts',
    'emulator',
    'emulator.ts',
    'reconcile.ts',
    'table.ts',
    'schedule.ts',
    ...SHARED,
  ],
  'cli.ts': ['commands', 'errors.ts'],
};

/** The one file or folder each library may be imported in. */
const VENDORS: Readonly<Record<string, RegExp>> = {
  '@aws-sdk/client-s3': /^src\/blob\/s3/,
  '@electric-sql/pglite': /^src\/db\/postgres\//,
  '@opentelemetry/api': /^src\/tracing\/otlp\.ts$/,
  '@opentelemetry/core': /^src\/tracing\/otlp\.ts$/,
  '@opentelemetry/exporter-trace-otlp-http': /^src\/tracing\/otlp\.ts$/,
  '@opentelemetry/resources': /^src\/tracing\/otlp\.ts$/,
  '@opentelemetry/sdk-trace': /^src\/tracing\/otlp\.ts$/,
  'cassandra-driver': /^src\/db\/pin-store\/(cassandra|cql)/,
  'cli-progress': /^src\/commands\/clean-progress\.ts$/,
  'cli-table3': /^src\/table\.ts$/,
  commander: /^src\/cli\.ts$/,
  croner: /^src\/schedule\.ts$/,
  'csv-parse': /^src\/emulator\//,
  'csv-stringify': /^src\/table\.ts$/,
  'drizzle-orm': /^src\/db\/postgres\//,
  hono: /^src\/edge\//,
  kafkajs: /^src\/log\/kafka/,
  'lz4-napi': /^src\/log\/kafka/,
  pino: /^src\/logger\.ts$/,
  'pino-pretty': /^src\/logger\.ts$/,
  postgres: /^src\/db\/postgres\//,
  preact: /^src\/edge\/dashboard\//,
  'prom-client': /^src\/metrics\.ts$/,
  'pure-rand': /^src\/(emulator|chaos)\//,
  snappy: /^src\/log\/kafka/,
  'trino-client': /^src\/db\/trino/,
  uplot: /^src\/edge\/dashboard\//,
  // A schema stands beside what it describes: the pin, the settings (and their reference page), the archive's manifest.
  zod: /^src\/(pin\/pin|config|docs|blob\/archive)\.ts$/,
};

/** 'src/log/kafka.ts' → 'log', 'src/cli.ts' → 'cli.ts' */
const partOf = (path: string): string => path.split('/')[1] ?? '';
const isOwn = (specifier: string): boolean => specifier.startsWith('.');
const isBuiltIn = (specifier: string): boolean => /^(node|bun):|^bun$/.test(specifier);
const packageOf = (specifier: string): string => specifier.match(/^(@[^/]+\/)?[^/]+/)?.[0] ?? specifier;
const resolved = (from: string, specifier: string): string => normalize(join(dirname(from), specifier));

const partsOutOfTable = (files: Files): readonly string[] =>
  [...new Set(sources(files).map(([path]) => partOf(path)))].flatMap((part) =>
    part in MAY_KNOW ? [] : `src/${part} is new: say in MAY_KNOW what it may import`,
  );

const wrongDirections = (files: Files): readonly string[] =>
  sources(files).flatMap(([path, text]) =>
    importsOf(text)
      .filter(isOwn)
      .map((specifier) => resolved(path, specifier))
      .filter((target) => target.startsWith('src/') && partOf(target) !== partOf(path))
      .filter((target) => !MAY_KNOW[partOf(path)]?.includes(partOf(target)))
      .map((target) => `${path} may not import ${target}`),
  );

const importCycles = (files: Files): readonly string[] => {
  const graph = new Map(
    sources(files).map(([path, text]) => [
      path,
      importsOf(text)
        .filter(isOwn)
        .map((s) => resolved(path, s)),
    ]),
  );
  const cycles: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
    else if (!done.has(path)) {
      for (const next of graph.get(path) ?? []) walk(next, [...trail, path]);
      done.add(path);
    }
  };
  for (const path of graph.keys()) walk(path, []);
  return cycles;
};

const vendorsOutOfPlace = (files: Files): readonly string[] =>
  sources(files).flatMap(([path, text]) =>
    importsOf(text)
      .filter((specifier) => !isOwn(specifier) && !isBuiltIn(specifier))
      .map(packageOf)
      .filter((name) => VENDORS[name]?.test(path) !== true)
      .map(
        (name) =>
          `${path} imports ${name}: ${VENDORS[name] === undefined ? 'say in VENDORS where it may be' : `only ${VENDORS[name]} may`}`,
      ),
  );

/** Text that only one file of src may hold. */
const onlyIn = (files: Files, pattern: RegExp, home: string): readonly string[] =>
  sources(files).flatMap(([path, text]) =>
    path !== home && pattern.test(text) ? `${path} holds ${pattern}: only ${home} may` : [],
  );

const ENVIRONMENT = /\bprocess\.env\b|\bBun\.env\b|\bimport\.meta\.env\b/;
const NEW_WORKER = /\bnew Worker\(/;

const classes = (files: Files): readonly string[] =>
  sources(files).flatMap(([path, text]) =>
    [...text.matchAll(/^\s*(?:export )?(?:abstract )?class (\w+)(?: extends (\w+))?/gm)]
      .filter((match) => match[2] !== 'Error')
      .map((match) => `${path}: class ${match[1]}: a factory reads better`),
  );

/** Binary files, and the lockfile's hashes, hold any letters by chance. */
const isText = (path: string): boolean => !/\.(gz|png|ico|woff2)$|^bun\.lock$/.test(path);

// Written so that this file does not hold what it looks for.
const LEFTOVER = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\\b`);
const MACHINE_PATH = new RegExp(`(?<![\\w.:-])/(${['home', 'root', 'work', 'Users'].join('|')})/(?!bun\\b)[\\w.]`);
const REGISTRY = /https?:\/\/[\w.-]*(registry|artifactory|nexus|mirror|proxy)[\w.-]*[:/]/i;

const linesWith = (files: Files, pattern: RegExp): readonly string[] =>
  [...files].flatMap(([path, text]) =>
    text.split('\n').flatMap((line, i) => (pattern.test(line) ? `${path}:${i + 1}: ${line.trim().slice(0, 100)}` : [])),
  );

type PackageJson = {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
};
const packageJson = (files: Files) => JSON.parse(files.get('package.json') ?? '{}') as PackageJson;

const looseVersions = ({ dependencies, devDependencies }: PackageJson): readonly string[] =>
  Object.entries({ ...dependencies, ...devDependencies }).flatMap(([name, version]) =>
    /^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version) ? [] : `${name}: ${version} is not one exact version`,
  );

const unusedDependencies = (files: Files): readonly string[] => {
  const used = new Set(sources(files).flatMap(([, text]) => importsOf(text).map(packageOf)));
  return Object.keys(packageJson(files).dependencies).filter((name) => !used.has(name));
};

/** Packages, and folders of src at any depth, that ARCHITECTURE.md does not name. */
const unnamed = (files: Files): readonly string[] => {
  const architecture = files.get('ARCHITECTURE.md') ?? '';
  const { dependencies, devDependencies } = packageJson(files);
  const folders = new Set(
    [...files.keys()].filter((path) => path.startsWith('src/')).flatMap((path) => path.split('/').slice(1, -1)),
  );
  const lacks = (pattern: string) => !new RegExp(pattern).test(architecture);
  return [
    ...[...folders].filter((folder) => lacks(`(?<![\\w-])${RegExp.escape(folder)}/`)),
    ...Object.keys({ ...dependencies, ...devDependencies }).filter((name) =>
      lacks(`(?<![\\w@-])${RegExp.escape(name)}(?![\\w/-])`),
    ),
  ];
};

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-');

const anchorsOf = (text: string): readonly string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map((match) => anchorOf(match[1] ?? ''));

const brokenLinks = (files: Files): readonly string[] => {
  const there = (path: string) =>
    files.has(path) || [...files.keys()].some((file) => file.startsWith(`${path.replace(/\/$/, '')}/`));
  const isBroken = (page: string, link: string): boolean => {
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page : resolved(page, decodeURI(path));
    if (!there(target)) return true;
    return anchor !== undefined && target.endsWith('.md') && !anchorsOf(files.get(target) ?? '').includes(anchor);
  };
  return [...files]
    .filter(([page]) => page.endsWith('.md'))
    .flatMap(([page, text]) =>
      [...text.replace(/^```.*?^```/gms, '').matchAll(/\]\(([^)\s]+)\)/g)]
        .map((match) => match[1] ?? '')
        .filter((link) => !/^[a-z]+:/.test(link) && isBroken(page, link))
        .map((link) => `${page}: ${link} leads nowhere`),
    );
};

/** Asks a rule about the real files, and about files that break it. */
const rule = (
  name: string,
  problems: (files: Files) => readonly string[],
  broken: Readonly<Record<string, string>>,
  found: number,
) =>
  describe(name, () => {
    test('holds', () => expect(problems(repository)).toEqual([]));
    test('is found broken', () => expect(problems(new Map(Object.entries(broken)))).toHaveLength(found));
  });

test('the files are found', () => expect(sources(repository).length).toBeGreaterThan(50));

describe('who may import whom', () => {
  rule(
    'each part of src is in the table',
    partsOutOfTable,
    { 'src/utils/x.ts': '', 'src/helpers.ts': '', 'src/pin/pin.ts': '' },
    2,
  );
  rule(
    'pin ← log, blob, db ← edge, workers ← supervisor ← cli',
    wrongDirections,
    {
      'src/pin/a.ts': "import { x } from '../errors.ts';",
      'src/log/a.ts': "import { x } from '../blob/blob.ts';",
      'src/db/postgres/a.ts': "import {\n  x,\n  y,\n} from '../../log/log.ts';",
      'src/edge/a.ts': "import type { X } from '../workers/x.ts';",
      'src/workers/a.ts': "export { x } from '../edge/x.ts';",
      'src/blob/a.ts': "const x: import('../supervisor.ts').X = 1;",
      'src/blob/b.ts': "import { x } from './a.ts';\nimport { y } from '../pin/pin.ts';",
      'src/blob/c.test.ts': "import { x } from '../edge/x.ts';",
    },
    6,
  );
  rule(
    'no import cycles',
    importCycles,
    {
      'src/a.ts': "import './b.ts';",
      'src/b.ts': "import './c.ts';",
      'src/c.ts': "import './a.ts';",
      'src/d.ts': "import './a.ts';",
    },
    1,
  );
  rule(
    'each library in one place',
    vendorsOutOfPlace,
    {
      'src/edge/a.ts': "import { Kafka } from 'kafkajs';",
      'src/edge/b.ts': "import { and } from 'drizzle-orm/pg-core';",
      'src/edge/c.ts': "import leftPad from 'left-pad';",
      'src/edge/d.ts': "import { Hono } from 'hono';\nimport { join } from 'node:path';",
      'src/log/kafka-x.ts': "const { Kafka } = await import('kafkajs');",
      'src/log/sqlite.ts': "const { Kafka } = await import('kafkajs');",
    },
    4,
  );
});

describe('what has one home', () => {
  rule(
    'the environment',
    (files) => onlyIn(files, ENVIRONMENT, 'src/config.ts'),
    { 'src/a.ts': 'process.env.X', 'src/b.ts': 'Bun.env.X' },
    2,
  );
  rule(
    'threads',
    (files) => onlyIn(files, NEW_WORKER, 'src/supervisor.ts'),
    { 'src/a.ts': 'new Worker(url)', 'src/supervisor.ts': 'new Worker(url)' },
    1,
  );
});

describe('style', () => {
  rule(
    'no class but errors',
    classes,
    { 'src/a.ts': 'export class Store {}', 'src/b.ts': 'class A extends B {}', 'src/c.ts': 'class E extends Error {}' },
    2,
  );
  rule(
    'nothing left to do',
    (files) => linesWith(new Map([...files].filter(([path]) => isText(path))), LEFTOVER),
    { 'a.md': `one\n${'TO' + 'DO'}: two`, 'bun.lock': 'X' + 'XX' },
    1,
  );
});

describe('nothing of one machine', () => {
  rule(
    'no paths',
    (files) => linesWith(files, MACHINE_PATH),
    { 'a.sh': `cd ${'/ho' + 'me'}/ada/x`, 'b.md': 'https://x.y/work' },
    1,
  );
  rule(
    'no registry hosts',
    (files) => linesWith(files, REGISTRY),
    { 'bun.lock': `https://npm-${'regis' + 'try'}.example/x`, 'b.md': 'https://x.y/z' },
    1,
  );
});

describe('dependencies', () => {
  const lacking = {
    'package.json': '{"dependencies":{"a":"^1.0.0","b":"1.0.0"},"devDependencies":{"c":"latest"}}',
    'src/x.ts': "import 'b';",
  };
  rule('exact versions', (files) => looseVersions(packageJson(files)), lacking, 2);
  rule('each is imported', unusedDependencies, lacking, 1);
  rule(
    'ARCHITECTURE.md names each, and every folder of src',
    unnamed,
    { ...lacking, 'ARCHITECTURE.md': 'src/log/ uses b', 'src/log/a.ts': '', 'src/db/pin-store/a.ts': '' },
    4,
  );
});

rule(
  'links between pages lead somewhere',
  brokenLinks,
  {
    'README.md':
      '# One\n[a](docs/a.md) [b](docs/b.md) [c](docs) [d](#one) [e](#two) [f](docs/a.md#a-b) [g](docs/a.md#x) [h](https://x.y)',
    'docs/a.md': '## A `b`!\n[up](../README.md) [out](../../x.md)\n```\n[code](nowhere.md)\n```',
  },
  4,
);
