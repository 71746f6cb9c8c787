import { asc, desc, eq, gt, sql as statement } from 'drizzle-orm';
import type { Position } from '../../pin/pin.ts';
import { parseMicros } from '../../pin/timestamp.ts';
import { asked } from './errors.ts';
import type { Database } from './open.ts';
import { streamOffsets as offsets, pins } from './schema.ts';
import type { SpeedPin } from './speed-batch.ts';
import { rfc3339 } from './times.ts';

type Db = Pick<Database, 'db'>;

/** Next offset to read by partition; a partition that was never read is absent. @throws PinflowError `postgres_unavailable` */
export const streamOffsets = async ({ db }: Db, topic: string): Promise<ReadonlyMap<number, number>> => {
  const rows = await asked(db.select().from(offsets).where(eq(offsets.topic, topic)));
  return new Map(rows.map((row) => [row.partition, row.nextOffset]));
};

/** Drizzle's reader of arrays loses backslashes. */
const tagsAsJson = statement<readonly string[] | null>`to_json(${pins.tagList})`;

/** The row of one id, or null. @throws PinflowError `postgres_unavailable` */
export const getSpeedPin = async ({ db }: Db, uniqueId: string): Promise<SpeedPin | null> => {
  const [found] = await asked(
    db
      .select({ pin: pins, receivedAt: rfc3339(pins.receivedAt), tagList: tagsAsJson })
      .from(pins)
      .where(eq(pins.uniqueId, uniqueId)),
  );
  if (found === undefined) return null;
  const { receivedAt, tagList } = found;
  const { receivedAt: _, writeTs, logPartition, logOffset, ...pin } = found.pin;
  const position: Position = { partition: logPartition, offset: logOffset };
  return { ...pin, tagList, receivedAtMicros: parseMicros(receivedAt) ?? 0, position, writeTimestamp: writeTs };
};

export type SpeedVersion = { readonly uniqueId: string; readonly writeTimestamp: number };

/** Ids read at once: some 100 KB. */
const VERSIONS_PAGE = 2000;

/**
 * Every id once with its version, in the order of ids. Pages by key, so memory is bounded and no transaction is held open;
 * a row that comes or changes meanwhile may show in its new state. @throws PinflowError `postgres_unavailable`
 */
export const speedVersions = async function* ({ db }: Db): AsyncIterable<readonly SpeedVersion[]> {
  const versions = db.select({ uniqueId: pins.uniqueId, writeTimestamp: pins.writeTs }).from(pins).$dynamic();
  let after: string | undefined;
  for (;;) {
    const above = after === undefined ? undefined : gt(pins.uniqueId, after);
    const page: SpeedVersion[] = await asked(versions.where(above).orderBy(asc(pins.uniqueId)).limit(VERSIONS_PAGE));
    if (page.length > 0) yield page;
    if (page.length < VERSIONS_PAGE) return;
    after = page.at(-1)?.uniqueId;
  }
};

export type ErrorPin = {
  readonly uniqueId: string;
  /** RFC 3339, six digits of a second. */
  readonly receivedAt: string;
  readonly category: string | null;
  readonly title: string | null;
  readonly errorFields: readonly string[];
};

export const errorPinColumns = {
  uniqueId: pins.uniqueId,
  receivedAt: rfc3339(pins.receivedAt),
  category: pins.category,
  title: pins.title,
  errorFields: pins.errorFields,
};

/** Erroneous pins, newest first. @throws PinflowError `postgres_unavailable` */
export const recentErrors = ({ db }: Db, { limit }: { readonly limit: number }): Promise<readonly ErrorPin[]> =>
  asked(
    db
      .select(errorPinColumns)
      .from(pins)
      // As the partial index has it: `is_error = true` would not match it.
      .where(statement`${pins.isError}`)
      .orderBy(desc(pins.receivedAt))
      .limit(limit),
  );
