import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../e2e/program.ts';
import { freePorts } from '../servers/install.ts';

/** A child process on a free port, for one test file. */
export type Child = { readonly url: string; readonly stop: () => Promise<void> };

const START_MS = 30_000;

const start = async (
  command: (port: number) => readonly string[],
  env: Readonly<Record<string, string>>,
  readyPath: string,
): Promise<Child> => {
  const [port = 0] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const child = Bun.spawn([...command(port)], { env, stdout: 'ignore', stderr: 'pipe' });
  const output = new Response(child.stderr).text();
  const stop = async () => {
    child.kill('SIGTERM');
    await child.exited;
  };
  await eventually(`${command(port)[0]} answers`, START_MS, async () => {
    if (child.exitCode !== null) throw new Error(`it ended:\n${await output}`);
    return (await fetch(`${url}${readyPath}`).catch(() => null))?.ok ? true : null;
  });
  return { url, stop };
};

/** @param config text of its prometheus.yaml; paths in it are absolute */
export const startPrometheus = async (path: string, config: string): Promise<Child> => {
  const folder = mkdtempSync(join(tmpdir(), 'pinflow-prometheus-'));
  const file = join(folder, 'prometheus.yaml');
  await Bun.write(file, config);
  const command = (port: number) => [
    path,
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ];
  const child = await start(command, {}, '/-/ready');
  const stop = async () => {
    await child.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { ...child, stop };
};

/** @param databaseUrl of the Postgres it reports on */
export const startPostgresExporter = (path: string, databaseUrl: string): Promise<Child> =>
  start(
    (port) => [path, `--web.listen-address=127.0.0.1:${port}`, '--log.level=error'],
    { DATA_SOURCE_NAME: `${databaseUrl}?sslmode=disable` },
    '/metrics',
  );

export type Sample = { readonly metric: Readonly<Record<string, string>>; readonly value: readonly [number, string] };

/** An instant query. @throws Error with what Prometheus says of a wrong one */
export const query = async ({ url }: Child, expr: string): Promise<readonly Sample[]> => {
  const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expr })}`);
  const answer = (await response.json()) as { error?: string; data: { result: readonly Sample[] } };
  if (!response.ok) throw new Error(`${answer.error}: ${expr}`);
  return answer.data.result;
};
