import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generatePins } from '../src/emulator/generate.ts';

/** Load for the benches, by wrk (a Debian package). */
export type Load = {
  readonly perSecond: number;
  readonly p99Ms: number;
  /** Answers that were no 2xx, and broken connections. */
  readonly errors: number;
};

export type LoadOptions = { readonly url: string; readonly connections: number; readonly seconds: number };

const wrk = async (options: LoadOptions, script: string, args: readonly string[]): Promise<Load> => {
  const { url, connections, seconds } = options;
  const own = ['-t2', `-c${connections}`, `-d${seconds}s`, '--latency', '-s', join(import.meta.dir, script), url];
  const child = Bun.spawn(['wrk', ...own, '--', ...args], { stdout: 'pipe', stderr: 'inherit' });
  const text = await new Response(child.stdout).text();
  const match = /RESULT (\d+) (\d+) (\d+) (\d+)/.exec(text);
  if (match === null) throw new Error(`wrk said nothing of use:\n${text}`);
  const [requests, micros, p99Micros, errors] = match.slice(1).map(Number) as [number, number, number, number];
  return { perSecond: (requests - errors) / (micros / 1e6), p99Ms: p99Micros / 1000, errors };
};

/** Single pins to POST /pin/, each with an id of its own. */
export const loadSingles = (options: LoadOptions): Promise<Load> => wrk(options, 'post.lua', []);

export type Bodies = { readonly files: readonly string[]; readonly first: string; readonly pins: number };

/** Files of NDJSON, `pins` lines each, all of them different pins. */
export const makeBodies = (count: number, pins: number): Bodies => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-bodies-'));
  const generated = generatePins({ seed: 1 });
  const texts = Array.from({ length: count }, () =>
    Array.from({ length: pins }, () => JSON.stringify(generated.next().value)).join('\n'),
  );
  const files = texts.map((text, i) => {
    const file = join(dir, `${i}.ndjson`);
    writeFileSync(file, text);
    return file;
  });
  return { files, first: texts[0] as string, pins };
};

/** NDJSON bodies to POST /pins. @returns pins a second. @throws Error when an answer was no 2xx */
export const loadBulk = async (options: LoadOptions, { files, pins }: Bodies): Promise<number> => {
  const load = await wrk(options, 'bulk.lua', files);
  if (load.errors > 0) throw new Error(`${load.errors} answers of ${options.url}/pins were no 2xx`);
  return load.perSecond * pins;
};

export type StoringNothing = { readonly url: string; readonly stop: () => void };

/** The edge's app over a log that keeps nothing. */
export const startStoringNothing = async (): Promise<StoringNothing> => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, 'no-storing.ts')], { stdout: 'pipe' });
  const { value } = await child.stdout.getReader().read();
  const url = new TextDecoder().decode(value).trim().split(/\s+/)[1] as string;
  return { url, stop: () => child.kill() };
};

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
