import { join } from 'node:path';

/** Load for the benches, by wrk (a Debian package). */
export type Load = {
  readonly perSecond: number;
  readonly p99Ms: number;
  /** Answers that were no 2xx, and broken connections. */
  readonly errors: number;
};

export type LoadOptions = { readonly url: string; readonly connections: number; readonly seconds: number };

/** Single pins to POST /pin/. @throws Error when wrk is missing */
export const loadSingles = async ({ url, connections, seconds }: LoadOptions): Promise<Load> => {
  const args = ['-t2', `-c${connections}`, `-d${seconds}s`, '--latency', '-s', join(import.meta.dir, 'post.lua'), url];
  const wrk = Bun.spawn(['wrk', ...args], { stdout: 'pipe', stderr: 'inherit' });
  const text = await new Response(wrk.stdout).text();
  const match = /RESULT (\d+) (\d+) (\d+) (\d+)/.exec(text);
  if (match === null) throw new Error(`wrk said nothing of use:\n${text}`);
  const [requests, micros, p99Micros, errors] = match.slice(1).map(Number) as [number, number, number, number];
  return { perSecond: (requests - errors) / (micros / 1e6), p99Ms: p99Micros / 1000, errors };
};

/** NDJSON bodies of `pins` each to POST /pins, by `connections` loops in this process, bodies made before. */
export const loadBulk = async (
  { url, connections, seconds }: LoadOptions,
  bodies: readonly Uint8Array[],
  pins: number,
) => {
  let posted = 0;
  const until = performance.now() + seconds * 1000;
  const startedAt = performance.now();
  const loop = async (start: number) => {
    for (let i = start; performance.now() < until; i++) {
      const response = await fetch(`${url}/pins`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body: bodies[i % bodies.length] as Uint8Array<ArrayBuffer>,
      });
      await response.arrayBuffer();
      if (response.status !== 200) throw new Error(`POST /pins answered ${response.status}`);
      posted += pins;
    }
  };
  await Promise.all(Array.from({ length: connections }, (_, i) => loop(i * 7)));
  return posted / ((performance.now() - startedAt) / 1000);
};

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
