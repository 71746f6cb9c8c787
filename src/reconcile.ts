import { archivePartitions, listManifest } from './blob/archive.ts';
import { eachRecord, readArchiveText } from './blob/archive-object.ts';
import type { BlobStore } from './blob/blob.ts';
import type { PinStore, PinVersion } from './db/pin-store/pin-store.ts';
import type { Database } from './db/postgres/open.ts';
import { removedBefore } from './db/postgres/speed-removal.ts';
import { speedVersions } from './db/postgres/speed-view.ts';
import type { PinLog } from './log/log.ts';
import { decodeRecord } from './pin/decode.ts';
import { writeTimestamp } from './pin/pin.ts';
import { type Difference, openIdLedger } from './reconcile-ids.ts';

/**
 * Proves promise 6: the ids of the log (as far as it still keeps them) are in the archive, and the archive, each batch view
 * and the speed view hold the same ids at the same version. Ids go through a temporary database on disk, so memory is
 * bounded whatever their number.
 */
export type Reconciliation = {
  readonly equal: boolean;
  /** Distinct ids in each place. */
  readonly counts: Readonly<Record<string, number>>;
  /** Archive offsets that stand in no object, or in two; must be empty. */
  readonly chainBreaks: readonly string[];
  /** Records of the log behind the end of the archive: under way, not lost. */
  readonly notYetArchived: number;
  /** Lines of the archive that cannot become a pin; they are in the dead letter queue. */
  readonly rejects: number;
  readonly differences: number;
  /** The same by place: the log, the speed view and each batch view. */
  readonly differencesByPlace: Readonly<Record<string, number>>;
  readonly examples: readonly Difference[];
};

type Deps = {
  readonly log: PinLog;
  readonly store: BlobStore;
  readonly pinStores: readonly PinStore[];
  readonly database: Database;
};

/** Records read from the log at once; at about 1 KB a record this is 5 MB. */
const LOG_READ = 5000;

type ArchiveScan = {
  readonly breaks: readonly string[];
  readonly rejects: number;
  readonly ends: ReadonlyMap<number, number>;
};

const scanArchive = async (
  store: BlobStore,
  record: (versions: readonly PinVersion[]) => void,
): Promise<ArchiveScan> => {
  const breaks: string[] = [];
  const ends = new Map<number, number>();
  let rejects = 0;
  for (const partition of await archivePartitions(store)) {
    let next: number | null = null;
    for await (const entry of listManifest(store, partition)) {
      if (next !== null && entry.firstOffset !== next) {
        breaks.push(
          `partition ${partition}: ${entry.key} starts at offset ${entry.firstOffset}, the chain is at ${next}`,
        );
      }
      next = entry.lastOffset + 1;
      const versions: PinVersion[] = [];
      await eachRecord(await readArchiveText(store, entry), (decoded, offset) => {
        if (!decoded.ok) rejects++;
        else {
          const { unique_id, receivedAtMicros } = decoded.value;
          versions.push({ uniqueId: unique_id, writeTimestamp: writeTimestamp(receivedAtMicros, offset) });
        }
      });
      record(versions);
    }
    ends.set(partition, next ?? 0);
  }
  return { breaks, rejects, ends };
};

const scanLog = async (log: PinLog, ends: ReadonlyMap<number, number>, record: (v: readonly PinVersion[]) => void) => {
  let notYetArchived = 0;
  for (const { partition, start, end } of await log.partitions()) {
    const archived = Math.min(end, ends.get(partition) ?? 0);
    notYetArchived += Math.max(0, end - Math.max(start, archived));
    for (let offset = start; offset < archived; ) {
      const records = await log.read({ partition, offset }, LOG_READ);
      const last = records.at(-1);
      if (last === undefined) break;
      record(
        records.flatMap((r) => {
          const decoded = r.offset < archived ? decodeRecord(r.value, r.timestamp) : null;
          if (!decoded?.ok) return [];
          const { unique_id, receivedAtMicros } = decoded.value;
          return { uniqueId: unique_id, writeTimestamp: writeTimestamp(receivedAtMicros, r.offset) };
        }),
      );
      offset = last.offset + 1;
    }
  }
  return notYetArchived;
};

/**
 * Reads every place whole: minutes for millions of pins. What is under way shows as `missing`: ask when the pipeline is idle.
 * @throws PinflowError of whichever engine cannot be read
 */
export const reconcile = async ({ log, store, pinStores, database }: Deps): Promise<Reconciliation> => {
  // The archive is the master data set; the log keeps only its newest records.
  const views = ['speed', ...pinStores.map(({ name }) => name)].map((name) => ({ name }));
  const ledger = openIdLedger([{ name: 'archive' }, { name: 'log', isPartial: true }, ...views]);
  try {
    const { breaks, rejects, ends } = await scanArchive(store, ledger.record('archive'));
    const notYetArchived = await scanLog(log, ends, ledger.record('log'));
    const speed = ledger.record('speed');
    for await (const versions of speedVersions(database)) speed(versions);
    for (const pinStore of pinStores) {
      const record = ledger.record(pinStore.name);
      for await (const versions of pinStore.versions()) record(versions);
    }
    // Last, as rows may be removed meanwhile. A version is its received_at to within the millisecond.
    const removed = await removedBefore(database, 'pins');
    const { counts, differences: differencesByPlace, examples } = ledger.compare({ speed: removed ?? 0 });
    const differences = Object.values(differencesByPlace).reduce((sum, n) => sum + n, 0);
    const equal = differences === 0 && breaks.length === 0 && notYetArchived === 0;
    return { equal, counts, chainBreaks: breaks, notYetArchived, rejects, differences, differencesByPlace, examples };
  } finally {
    ledger.close();
  }
};
