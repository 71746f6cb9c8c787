import { openIdLedger } from '../src/reconcile-ids.ts';

/**
 * Claim: `reconcile` compares millions of ids in bounded memory. Notes generated ids in an archive, a log, a speed view and a
 * batch view, each in an order of its own, and compares them. `bun bench/reconcile.ts [millions]` (Default: 2)
 */
const MEBI = 1024 * 1024;
const BATCH = 5000;
/** Of memory beyond what the process had before. */
const LIMIT_MIB = 256;

const ids = Number(process.argv[2] ?? 2) * 1_000_000;
const startRss = process.memoryUsage.rss();
let highest = startRss;
const watch = () => {
  highest = Math.max(highest, process.memoryUsage.rss());
};

/** Scattered over all ids, and never the same for two numbers: an odd factor modulo a power of two. */
const idOf = (n: number): string => {
  const hex = BigInt.asUintN(64, BigInt(n) * 0x9e3779b97f4a7c15n)
    .toString(16)
    .padStart(16, '0');
  return `00000000-0000-4000-${hex.slice(0, 4)}-${hex.slice(4)}`;
};

/** Each place has its own order: steps by a prime that does not divide the number of ids. */
const PRIMES = { archive: 1, log: 7_368_787, speed: 15_485_863, embedded: 32_452_843 } as const;

const beganAt = performance.now();
const ledger = openIdLedger(Object.keys(PRIMES).map((name) => ({ name, isPartial: name === 'log' })));
for (const [place, prime] of Object.entries(PRIMES)) {
  const record = ledger.record(place);
  for (let from = 0; from < ids; from += BATCH) {
    record(
      Array.from({ length: BATCH }, (_, i) => ({ uniqueId: idOf(((from + i) * prime) % ids), writeTimestamp: 1 })),
    );
    watch();
  }
}
const notedAt = performance.now();
const { counts, differences } = ledger.compare();
watch();
ledger.close();

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const grownMib = Math.round((highest - startRss) / MEBI);
const isEqual = Object.values(differences).every((n) => n === 0) && Object.values(counts).every((n) => n === ids);
process.stdout.write(
  `${ids} ids in 4 places: noted in ${seconds(notedAt - beganAt)}, compared in ${seconds(performance.now() - notedAt)}; ` +
    `${isEqual ? 'equal' : 'DIFFERENT'}; memory grew by ${grownMib} MiB (limit ${LIMIT_MIB})\n`,
);
process.exit(isEqual && grownMib <= LIMIT_MIB ? 0 : 1);
