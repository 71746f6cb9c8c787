import { parseArgs } from 'node:util';
import { cleanPin } from '../src/pin/clean.ts';
import { acceptPin, decodeRecord } from '../src/pin/decode.ts';
import type { StoredPin } from '../src/pin/pin.ts';

/**
 * Claim: one thread decodes and cleans pins at a good part of the speed at which it can parse their JSON at all.
 * Prints pins a second of each step in its best round (the others shared the machine), and its ratio to JSON.parse
 * alone, the limit.
 */
const { values } = parseArgs({ options: { rounds: { type: 'string', default: '40' } } });
const ROUNDS = Number(values.rounds);
/** Pins in one round: long enough for a steady figure, short enough for many rounds. */
const PINS = 20_000;
/** 2026-01-01, in microseconds. */
const START_MICROS = 1_767_225_600_000_000;

const fixture = await Bun.file(new URL('../test/fixtures/pins.ndjson', import.meta.url)).text();
const posted = fixture
  .trimEnd()
  .split('\n')
  .map((line) => new TextEncoder().encode(line));
const records = posted.map((bytes, i) => {
  const accepted = acceptPin(bytes, START_MICROS + i * 997);
  if (!accepted.ok) throw new Error(`the fixture holds no pin at line ${i + 1}: ${accepted.reject.reason}`);
  return accepted.value.line;
});
const lines = records.map((record) => new TextDecoder().decode(record));

const decoded = (value: Uint8Array | string): StoredPin => {
  const result = decodeRecord(value, 0);
  if (!result.ok) throw new Error(result.reject.reason);
  return result.value;
};
const stored = lines.map(decoded);

/** Each step over item `i` of the fixture; the sum of what it answers keeps the work from being optimised away. */
const steps: Readonly<Record<string, (i: number) => number>> = {
  'JSON.parse': (i) => JSON.parse(lines[i] as string).index,
  'decode line': (i) => decoded(lines[i] as string).index,
  'decode bytes': (i) => decoded(records[i] as Uint8Array).index,
  clean: (i) => cleanPin(stored[i] as StoredPin).indexNo,
  'decode line, clean': (i) => cleanPin(decoded(lines[i] as string)).indexNo,
  'decode bytes, clean': (i) => cleanPin(decoded(records[i] as Uint8Array)).indexNo,
  accept: (i) => (acceptPin(posted[i] as Uint8Array, START_MICROS + i * 997).ok ? 1 : 0),
};

const round = (step: (i: number) => number): number => {
  const start = performance.now();
  let sum = 0;
  for (let n = 0; n < PINS; n++) sum += step(n % lines.length);
  if (Number.isNaN(sum)) throw new Error('a step answered no number');
  return (PINS / (performance.now() - start)) * 1000;
};

const best = new Map<string, number>();
// Rounds of all steps take turns, so that a busy machine slows all of them alike. The first round warms up.
for (let r = 0; r <= ROUNDS; r++) {
  for (const [name, step] of Object.entries(steps)) {
    const perSecond = round(step);
    if (r > 0) best.set(name, Math.max(perSecond, best.get(name) ?? 0));
  }
}

const limit = best.get('JSON.parse') ?? 0;
for (const [name, perSecond] of best) {
  const ratio = (perSecond / limit).toFixed(2);
  const figure = Math.round(perSecond).toLocaleString('en-GB').padStart(10);
  console.log(`${name.padEnd(20)} ${figure} pins/s  ${ratio} of JSON.parse`);
}
