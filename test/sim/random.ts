import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** All that is left to chance in a seed: the same seed, the same answers in the same order. */
export type Random = {
  /** From `min` to `max`, both included. */
  readonly int: (min: number, max: number) => number;
  /** From 0 up to, and without, 1. */
  readonly unit: () => number;
  /** True with probability `p`. */
  readonly chance: (p: number) => boolean;
  readonly pick: <T>(list: readonly [T, ...T[]]) => T;
};

const UNITS = 2 ** 30;

export const createRandom = (seed: number): Random => {
  // Seeds that follow each other give first numbers that do, too: they are scattered first.
  const generator = xoroshiro128plus(Number(BigInt.asIntN(32, BigInt(Bun.hash.wyhash(`pinflow ${seed}`)))));
  const int = (min: number, max: number) => uniformInt(generator, min, max);
  const unit = () => int(0, UNITS - 1) / UNITS;
  return {
    int,
    unit,
    chance: (p) => unit() < p,
    pick: (list) => list[int(0, list.length - 1)] ?? list[0],
  };
};
