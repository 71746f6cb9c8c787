import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import type { Gzip } from 'node:zlib';
import { installVirtualTime, shareIntervals } from './virtual-time.ts';

/**
 * `bun test/sim/main.ts --seeds 10000 --from 1`: many seeds; exit 1 when one fails or a named crash point was never hit.
 * `--seconds 60 --at-least 100` ends after a minute, but not before a hundred seeds.
 * `bun test/sim/main.ts --seed 123`: one seed, with its history. `--postgres` adds the streamers and cleaners,
 * over the embedded one, or over the empty database of `--postgres-url`.
 */
const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seconds: { type: 'string', default: 'Infinity' },
    'at-least': { type: 'string', default: '0' },
    postgres: { type: 'boolean', default: false },
    'postgres-url': { type: 'string' },
    sabotage: { type: 'string' },
    quiet: { type: 'boolean', default: false },
  },
});

/** zlib off the thread would end at any time of its own: here it is done at once. Before anything imports it. */
const compressAtOnce = () => {
  const zlib = process.getBuiltinModule('node:zlib');
  type Callback = (error: Error | null, result?: Uint8Array) => void;
  const atOnce = (work: (bytes: Uint8Array, options: object) => Uint8Array) =>
    ((bytes: Uint8Array, ...rest: (object | Callback)[]) => {
      const done = rest.at(-1) as Callback;
      try {
        done(null, work(bytes, rest.length > 1 ? (rest[0] as object) : {}));
      } catch (error) {
        done(error as Error);
      }
    }) as unknown as Gzip;
  const { gunzipSync } = zlib;
  // Without the stream that Node's own makes for each call.
  const gzip = atOnce((bytes, options) => Buffer.from(Bun.gzipSync(new Uint8Array(bytes), options)));
  Object.assign(zlib, { gzip, gunzip: atOnce(gunzipSync) });
};

compressAtOnce();
installVirtualTime();
const { withDeadline } = await import('../../src/retry.ts');
// All deadlines are watched by one timer of the module, which must not die with the process that asked first.
shareIntervals(() => void withDeadline(new Promise(() => {}), Number.POSITIVE_INFINITY, () => new Error() as never));
const { runMany, runOne } = await import('./runs.ts');

const folder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const options = {
  folder,
  withPostgres: values.postgres,
  postgresUrl: values['postgres-url'] ?? null,
  sabotage: values.sabotage ?? null,
  isQuiet: values.quiet,
};
const [from, seeds, seconds, atLeast] = [values.from, values.seeds, values.seconds, values['at-least']].map(Number);
const range = { from: from ?? 1, seeds: seeds ?? 1, seconds: seconds ?? 0, atLeast: atLeast ?? 0 };
const isWell = values.seed === undefined ? await runMany(range, options) : await runOne(Number(values.seed), options);
process.exit(isWell ? 0 : 1);
