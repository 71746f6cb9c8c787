import { types } from 'cassandra-driver';
import type { PinRow } from './pin-store.ts';

type Column = {
  /** As `system_schema.columns` words it. */
  readonly type: string;
  readonly value: (row: PinRow) => unknown;
};

/** Table `userposts` as migrations/cql makes it. `bigint` is a JavaScript bigint both ways. */
export const COLUMNS: Readonly<Record<string, Column>> = {
  unique_id: { type: 'uuid', value: (row) => types.Uuid.fromString(row.uniqueId) },
  received_at: { type: 'timestamp', value: (row) => new Date(Math.floor(row.receivedAtMicros / 1000)) },
  received_at_micros: { type: 'bigint', value: (row) => BigInt(row.receivedAtMicros) },
  category: { type: 'text', value: (row) => row.category },
  index_no: { type: 'int', value: (row) => row.indexNo },
  title: { type: 'text', value: (row) => row.title },
  description: { type: 'text', value: (row) => row.description },
  follower_count: { type: 'bigint', value: (row) => row.followerCount },
  tag_list: { type: 'frozen<list<text>>', value: (row) => row.tagList },
  is_image_or_video: { type: 'text', value: (row) => row.isImageOrVideo },
  image_src: { type: 'text', value: (row) => row.imageSrc },
  downloaded: { type: 'int', value: (row) => row.downloaded },
  save_location: { type: 'text', value: (row) => row.saveLocation },
  poster_name: { type: 'text', value: (row) => row.posterName },
  is_error: { type: 'boolean', value: (row) => row.isError },
  error_fields: { type: 'frozen<list<text>>', value: (row) => row.errorFields },
  write_ts: { type: 'bigint', value: (row) => BigInt(row.writeTimestamp) },
  log_partition: { type: 'int', value: (row) => row.position.partition },
  log_offset: { type: 'bigint', value: (row) => BigInt(row.position.offset) },
};

/** Beside the pin's own columns: which rebuild wrote the row. */
export const GENERATION = { name: 'generation', type: 'int' } as const;

const NAMES = Object.keys(COLUMNS);
const VALUES = Object.values(COLUMNS).map((column) => column.value);

/**
 * Writes every column, nulls included, so that a newer version overwrites whatever an older one had. Each null costs a
 * tombstone, one or two a row as pins go, until the cluster's gc_grace_seconds are over: reading by id does not feel it, a scan passes over
 * them (its page size keeps far below tombstone_failure_threshold).
 */
export const insertCql = (table: string): string =>
  `INSERT INTO ${table} (${NAMES.join(', ')}, ${GENERATION.name}) VALUES (${NAMES.map(() => '?').join(', ')}, ?) USING TIMESTAMP ?`;

export const selectCql = (table: string): string => `SELECT ${NAMES.join(', ')} FROM ${table} WHERE unique_id = ?`;

/**
 * The timestamp of a row's cells, microseconds. Each generation is one microsecond above the one before, for every version alike:
 * versions keep their order, and a rebuild wins over what stood there.
 */
export const cellTimestamp = (writeTimestamp: number, generation: number): bigint =>
  BigInt(writeTimestamp) + BigInt(generation);

/** Values for {@link insertCql}; the first one is the partition key. */
export const toParams = (row: PinRow, generation: number): unknown[] => {
  const params: unknown[] = [];
  for (const value of VALUES) params.push(value(row));
  params.push(generation, cellTimestamp(row.writeTimestamp, generation));
  return params;
};

export const toPinRow = (row: types.Row): PinRow => ({
  uniqueId: String(row.unique_id),
  receivedAtMicros: Number(row.received_at_micros),
  category: row.category as string | null,
  indexNo: row.index_no as number,
  title: row.title as string | null,
  description: row.description as string | null,
  followerCount: row.follower_count as bigint | null,
  tagList: row.tag_list as string[] | null,
  isImageOrVideo: row.is_image_or_video as string | null,
  imageSrc: row.image_src as string | null,
  downloaded: row.downloaded as number,
  saveLocation: row.save_location as string | null,
  posterName: row.poster_name as string | null,
  isError: row.is_error as boolean,
  errorFields: (row.error_fields as string[] | null) ?? [],
  writeTimestamp: Number(row.write_ts),
  position: { partition: row.log_partition as number, offset: Number(row.log_offset) },
});

/** Bytes of a row without its text, as Cassandra counts a mutation (names, timestamps and lengths of cells): measured, rounded up. */
const FIXED_BYTES = 512;

const bytesOf = (text: string | null): number => (text === null ? 0 : Buffer.byteLength(text));

/** About what the row weighs in a batch. */
export const sizeOf = (row: PinRow): number =>
  FIXED_BYTES +
  bytesOf(row.category) +
  bytesOf(row.title) +
  bytesOf(row.description) +
  bytesOf(row.isImageOrVideo) +
  bytesOf(row.imageSrc) +
  bytesOf(row.saveLocation) +
  bytesOf(row.posterName) +
  (row.tagList ?? []).reduce((sum, tag) => sum + 4 + bytesOf(tag), 0);
