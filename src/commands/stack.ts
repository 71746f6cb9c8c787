import { say } from './context.ts';

/** What the stack of compose.yaml is reached at, by its published ports. */
const PLACES = [
  ['edge and dashboard', 'http://127.0.0.1:8000'],
  ['Grafana', 'http://127.0.0.1:3000'],
  ['Prometheus', 'http://127.0.0.1:9090'],
  ['Redpanda Console', 'http://127.0.0.1:8088'],
  ['Trino', 'http://127.0.0.1:8080'],
  ['Postgres', 'postgres://pinflow:pinflow@127.0.0.1:5432/pinflow'],
] as const;

const compose = async (...args: readonly string[]): Promise<number> => {
  try {
    return await Bun.spawn(['docker', 'compose', ...args], { stdin: 'inherit', stdout: 'inherit', stderr: 'inherit' })
      .exited;
  } catch {
    say(
      'docker is not there: the stack needs a container engine with Compose. Without one, `bun run dev` runs the embedded parts.',
    );
    return 1;
  }
};

/** The stack of compose.yaml: up, migrated, and where it is. @param core without Trino and monitoring */
export const stack = async ({ core = false }: { readonly core?: boolean }): Promise<number> => {
  const up = await compose('--profile', core ? 'core' : 'full', 'up', '--detach', '--wait', '--build');
  if (up !== 0) return up;
  const migrated = await compose('exec', '-T', 'app', 'bun', 'src/cli.ts', 'migrate');
  if (migrated !== 0) return migrated;
  for (const [name, url] of PLACES) say(`${name.padEnd(20)}${url}`);
  return 0;
};
