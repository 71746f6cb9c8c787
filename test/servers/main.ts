import { sleep } from '../../src/retry.ts';
import { isAlive } from './process.ts';
import { SERVER_NAMES, type ServerName } from './recipe.ts';
import { findOrStart, stopServers } from './servers.ts';
import { readRunning } from './state.ts';

/** `bun test/servers/main.ts start|stop|env [names]`; see README.md beside it. */
const USAGE = `usage: bun test/servers/main.ts start|stop|env [${SERVER_NAMES.join('|')} ...]`;
const WATCH_POLL_MS = 500;

const isName = (text: string): text is ServerName => (SERVER_NAMES as readonly string[]).includes(text);

const start = async (names: readonly ServerName[]) => {
  for (const name of names) {
    const began = performance.now();
    const server = await findOrStart(name, { keep: true, download: true });
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    if ('skip' in server) throw new Error(server.skip);
    console.error(`${name}: ${Object.values(server.settings)[0]} (from ${server.from}, ${seconds} s)`);
  }
};

const printSettings = (names: readonly ServerName[]) => {
  for (const [key, value] of names.flatMap((name) => Object.entries(readRunning(name)?.settings ?? {}))) {
    console.log(`${key}=${value}`);
  }
};

/** Waits for a test run to end, then stops what nobody uses any more. */
const watch = async (pid: number) => {
  while (isAlive(pid)) await sleep(WATCH_POLL_MS);
  await stopServers(SERVER_NAMES, 'unused');
};

const main = async ([command, ...args]: readonly string[]): Promise<void> => {
  if (command === 'watch') return watch(Number(args[0]));
  const unknown = args.find((arg) => !isName(arg));
  if (unknown !== undefined) throw new Error(`there is no server called ${unknown}\n${USAGE}`);
  const names = args.length === 0 ? SERVER_NAMES : args.filter(isName);
  if (command === 'start') return start(names);
  if (command === 'stop') return stopServers(names, 'all');
  if (command === 'env') return printSettings(names);
  throw new Error(USAGE);
};

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
