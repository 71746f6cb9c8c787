import { readManifestEntry } from '../blob/archive.ts';
import { readArchiveText } from '../blob/archive-object.ts';
import type { HourRange } from '../db/postgres/ledger-pages.ts';
import { isPinflowError, messageOf } from '../errors.ts';
import { addQuality, countSetAside, emptyQuality, type QualityReport, qualityReport } from '../pin/quality.ts';
import { type DiscoverDeps, discover } from './clean-discover.ts';
import { cleanEachLine } from './clean-lines.ts';
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

/**
 * Reads and cleans the objects of some hours, and writes nothing: to no store, no dead letters. (The ledger learns which
 * objects there are.)
 */
export const dryRun = async (
  deps: DiscoverDeps,
  range: HourRange,
  onStep: (step: StepDone) => void,
): Promise<DryRun> => {
  const signal = new AbortController().signal;
  await discover(deps, signal);
  const quality = emptyQuality();
  const damaged: string[] = [];
  const sum = { objects: 0, pins: 0, errors: 0, rejects: 0, bytes: 0 };
  for await (const object of ofHours(deps, range, signal)) {
    sum.objects++;
    sum.bytes += object.bytes;
    try {
      const entry = await readManifestEntry(deps.store, { partition: object.partition, offset: object.firstOffset });
      if (entry === null) throw new Error('it is not in the manifest');
      const cleaned = await cleanEachLine(await readArchiveText(deps.store, entry), () => {});
      sum.pins += cleaned.pins;
      sum.errors += cleaned.errors;
      sum.rejects += cleaned.rejected.length;
      addQuality(quality, cleaned.quality);
      onStep({ store: 'none', pins: cleaned.pins, bytes: object.bytes });
    } catch (error) {
      if (isPinflowError(error) && error.code !== 'corrupt_object') throw error;
      sum.rejects++;
      damaged.push(`${object.key}: ${messageOf(error)}`);
      countSetAside(quality, 'damaged object');
    }
  }
  return { ...sum, quality: qualityReport(quality), damaged };
};
