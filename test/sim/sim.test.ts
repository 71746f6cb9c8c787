import { afterAll, describe, expect, test } from 'bun:test';
import { fileURLToPath } from 'node:url';
import { freshDatabase } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { SABOTAGES } from './ports.ts';

/** A process of its own: the simulator takes over its timers, and must be the first to do so. */
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const running = new Set<Bun.Subprocess>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

const simulate = async (...args: readonly string[]) => {
  const child = Bun.spawn([process.execPath, MAIN, ...args], { stdout: 'pipe', stderr: 'pipe' });
  running.add(child);
  const [out, problems, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  running.delete(child);
  return { out, code, said: `${out}\n${problems}` };
};

/** The embedded Postgres does as well, at a third of the speed. */
const server = await testServer('postgres');
const withDatabase = async <T>(work: (args: readonly string[]) => Promise<T>): Promise<T> => {
  if ('skip' in server) return work(['--postgres']);
  const { url, drop } = await freshDatabase(server.settings);
  try {
    return await work(['--postgres', '--postgres-url', url]);
  } finally {
    await drop();
  }
};

/** Seconds of the shares, which run side by side. Points are asked for in each of them. */
const SHARE_S = 60;
/** Seeds do not depend on each other: two processes use two cores. */
const FIRST_SEEDS = [1, 1_000_001];
const LONG_MS = 600_000;
/** Far above what each mistake took when it was measured, see test/sim/README.md. */
const SEEDS_TO_FIND = 1000;

describe('the simulator', () => {
  test.concurrent.each(FIRST_SEEDS)(
    'edge, spool, log and archive: a thousand seeds of faults from %d on, and nothing lost or twice',
    async (from) => {
      const limits = ['--seeds', '10000', '--from', String(from), '--seconds', String(SHARE_S), '--at-least', '1000'];
      const { code, said } = await simulate(...limits);
      expect(said).toContain(' seeds in ');
      expect(code, said).toBe(0);
      console.log(said.trim());
    },
    LONG_MS,
  );

  test.concurrent(
    'the same with the batch and the speed layer over a real Postgres',
    async () => {
      const limits = ['--seeds', '1000', '--seconds', String(SHARE_S), '--at-least', '110'];
      const { code, said } = await withDatabase((args) => simulate(...args, ...limits));
      expect(said).toContain(' seeds in ');
      expect(code, said).toBe(0);
      console.log(said.trim());
    },
    LONG_MS,
  );

  test(
    'one seed always gives one history',
    async () => {
      const twice = await Promise.all([simulate('--seed', '13'), simulate('--seed', '13')]);
      expect(twice[0].out).toContain('trace ');
      expect(twice[0].out).toBe(twice[1].out);
      const other = await simulate('--seed', '14');
      expect(other.out.slice(0, 1000)).not.toBe(twice[0].out.slice(0, 1000));
    },
    LONG_MS,
  );

  test.concurrent.each(SABOTAGES)(
    'finds a deliberate mistake: %s',
    async (sabotage) => {
      const limits = ['--seeds', String(SEEDS_TO_FIND), '--sabotage', sabotage];
      const find = (args: readonly string[]) => simulate(...args, ...limits);
      const { code, said } = await (sabotage === 'unconditional offset' ? withDatabase(find) : find([]));
      expect(code, said).toBe(1);
      expect(said).toContain(`Replay it: bun test/sim/main.ts --seed `);
      console.log(sabotage, said.match(/seed \d+ failed, the \d+th/)?.[0]);
    },
    LONG_MS,
  );
});
