import { readConfig } from '../config.ts';
import { openSource } from '../emulator/source.ts';
import { type EmulateTally, emulate } from '../emulator.ts';
import { type Format, printObjects, say } from './context.ts';

type Options = {
  readonly url?: string;
  readonly rate?: number;
  readonly count?: number;
  readonly batch: number;
  readonly errorRate?: number;
  readonly seed?: number;
  readonly from?: string;
  readonly apiKey?: string;
  readonly format: Format;
};

/** A line of progress is drawn at most this often, milliseconds. */
const PROGRESS_MS = 500;

/** Fresh pins at each start unless a seed is given: the same ids again would only be updates. */
const freshSeed = (): number => crypto.getRandomValues(new Int32Array(1))[0] ?? 0;

const statusesText = (tally: EmulateTally): string =>
  Object.entries(tally.statuses)
    .map(([status, times]) => `${status === '0' ? 'no answer' : status} ×${times}`)
    .join(', ');

const keepProgress = () => {
  const startedAt = Date.now();
  let drawnAt = 0;
  return (tally: EmulateTally) => {
    if (!process.stderr.isTTY || Date.now() - drawnAt < PROGRESS_MS) return;
    drawnAt = Date.now();
    const rate = (tally.accepted / Math.max(0.001, (drawnAt - startedAt) / 1000)).toFixed(0);
    process.stderr.write(`\r\x1b[2K${tally.accepted} accepted, ${rate} pins/s · ${statusesText(tally)}`);
  };
};

/** Posts until the count, the end of the source or a signal. @returns 0 when every pin was accepted */
export const runEmulator = async (options: Options): Promise<number> => {
  const config = readConfig();
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const startedAt = Date.now();
  const tally = await emulate({
    url: options.url ?? `http://${config.HOST}:${config.PORT}`,
    source: openSource(options.from, { seed: options.seed ?? freshSeed(), errorRate: options.errorRate }),
    rate: options.rate,
    count: options.count,
    batch: options.batch,
    apiKey: options.apiKey ?? firstKey(config.API_KEYS),
    signal: stop.signal,
    onProgress: keepProgress(),
  });
  if (process.stderr.isTTY) say('');
  const { accepted, rejected, failed, retries } = tally;
  const seconds = (Date.now() - startedAt) / 1000;
  const answers = statusesText(tally);
  printObjects(
    [{ accepted, rejected, failed, retries, seconds, pins_per_second: Math.round(accepted / seconds), answers }],
    options.format,
    [],
  );
  return rejected + failed === 0 ? 0 : 1;
};

/** The key of the first `name:key`, for posting to one's own edge. */
export const firstKey = (keys: readonly string[] | undefined): string | undefined => keys?.[0]?.replace(/^[^:]*:/, '');

/** The emulator beside a running program, for `up --emulate`. */
export const startEmulator = (options: { readonly url: string; readonly rate: number; readonly apiKey?: string }) => {
  const stop = new AbortController();
  const done = emulate({ ...options, source: openSource(undefined, { seed: freshSeed() }), signal: stop.signal });
  done.catch((error: unknown) => say(`the emulator ended: ${String(error)}`));
  return {
    stop: async () => {
      stop.abort();
      await done.catch(() => {});
    },
  };
};
