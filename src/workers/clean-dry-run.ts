import type { HourRange } from '../db/postgres/ledger-pages.ts';
import { addQuality, countSetAside, emptyQuality, type QualityReport, qualityReport } from '../pin/quality.ts';
import type { CountObject } from './clean-count.ts';
import { type DiscoverDeps, discover } from './clean-discover.ts';
import { ofHours } from './clean-pending.ts';
import type { StepDone } from './clean-run.ts';

/** What a backfill would do. `rejects`: lines and whole objects that would be set aside. */
export type DryRun = {
  readonly objects: number;
  readonly pins: number;
  readonly errors: number;
  readonly rejects: number;
  readonly bytes: number;
  readonly quality: QualityReport;
  /** Damaged objects, with the reason. */
  readonly damaged: readonly string[];
};

export type DryRunDeps = DiscoverDeps & {
  /** Each counts one object at a time, all of them at once. */
  readonly counters: readonly CountObject[];
};

/**
 * Reads and cleans the objects of some hours, and writes nothing: to no store, no dead letters. (The ledger learns which
 * objects there are.)
 * @throws PinflowError what the counters throw
 */
export const dryRun = async (deps: DryRunDeps, range: HourRange, onStep: (step: StepDone) => void): Promise<DryRun> => {
  const stopping = new AbortController();
  await discover(deps, stopping.signal);
  const quality = emptyQuality();
  const damaged: string[] = [];
  const sum = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };
  const objects = ofHours(deps, range, stopping.signal);
  const lane = async (count: CountObject) => {
    for (let next = await objects.next(); !next.done && !stopping.signal.aborted; next = await objects.next()) {
      const object = next.value;
      const counted = await count(object);
      sum.objects++;
      sum.bytes += object.bytes;
      if ('damaged' in counted) {
        sum.rejects++;
        damaged.push(`${object.key}: ${counted.damaged}`);
        countSetAside(quality, 'damaged object');
        continue;
      }
      sum.pins += counted.pins;
      sum.errors += counted.errors;
      sum.rejects += counted.rejects;
      addQuality(quality, counted.quality);
      onStep({ store: 'none', pins: counted.pins, bytes: object.bytes });
    }
  };
  try {
    await Promise.all(deps.counters.map(lane));
  } finally {
    stopping.abort();
  }
  return { ...sum, quality: qualityReport(quality), damaged: damaged.sort() };
};
