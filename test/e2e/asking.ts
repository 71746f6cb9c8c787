import { expect } from 'bun:test';
import { somePin } from '../../src/edge/fixture.ts';
import { type Env, eventually, type Running, runCommand } from './program.ts';

/** What a program says of its parts, by /readyz, /metrics and `doctor`, and what e2e tests wait for there. */
const NOTICED_MS = 60_000;
const SETTLE_MS = 180_000;

type Part = { readonly part: string; readonly ready: boolean; readonly reason?: string };

export const partsOf = async ({ url }: Running): Promise<ReadonlyMap<string, Part>> => {
  const response = await fetch(`${url}/readyz`);
  const { parts, ready } = (await response.json()) as { parts: Part[]; ready: boolean };
  expect(response.status).toBe(ready ? 200 : 503);
  return new Map(parts.map((part) => [part.part, part]));
};

/** One right pin, which is acked. @returns where it is durable: `spool`, `log` or `broker` */
export const post = async ({ url }: Running): Promise<string | null> => {
  const body = JSON.stringify(somePin());
  const response = await fetch(`${url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  return response.headers.get('x-pin-durability');
};

export const metricsOf = async ({ url }: Running): Promise<string> => (await fetch(`${url}/metrics`)).text();

/** Workers post theirs every second. */
export const untilMetric = (program: Running, line: RegExp) =>
  eventually(`/metrics has ${line}`, NOTICED_MS, async () => (line.test(await metricsOf(program)) ? true : null));

/** Waits until each of these parts is not ready for a reason that names this variable. */
export const untilNamed = (program: Running, wanted: Readonly<Record<string, string>>) =>
  eventually(`/readyz names ${JSON.stringify(wanted)}`, NOTICED_MS, async () => {
    const parts = await partsOf(program);
    const named = Object.entries(wanted).every(([part, variable]) => parts.get(part)?.reason?.includes(variable));
    return named ? parts : null;
  }).catch(async (error) => {
    throw new Error(`${String(error)}: ${JSON.stringify([...(await partsOf(program)).values()])}`);
  });

export const untilReady = (program: Running) =>
  eventually('all parts are ready', SETTLE_MS, async () => {
    const parts = await partsOf(program);
    return parts.values().every(({ ready }) => ready) ? true : null;
  }).catch(async (error) => {
    throw new Error(`${String(error)}: ${JSON.stringify([...(await partsOf(program)).values()])}`);
  });

/** What `doctor` says of each part that fails. */
export const diagnose = async (
  env: Env,
): Promise<{ readonly findings: ReadonlyMap<string, string>; readonly text: string }> => {
  const { code, stdout, stderr } = await runCommand(env, ['doctor', '--format', 'json']);
  const parsed = JSON.parse(stdout) as { part: string; ok: boolean; detail: string }[];
  expect(code).toBe(parsed.every(({ ok }) => ok) ? 0 : 1);
  const failed = parsed.filter(({ ok }) => !ok).map(({ part, detail }) => [part, detail] as const);
  return { findings: new Map(failed), text: stdout + stderr };
};
