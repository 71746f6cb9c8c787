import type { types } from 'cassandra-driver';
import type { BytesWriter } from '../bytes-writer.ts';
import { type CqlType, type CqlValues, WRITE } from './cql-encoding.ts';
import type { PinRow } from './pin-store.ts';

type Column = {
  /** As `system_schema.columns` words it. */
  readonly type: CqlType;
  readonly value: (row: PinRow) => CqlValues[CqlType];
  readonly write: (out: BytesWriter, row: PinRow) => void;
};

const column = <T extends CqlType>(type: T, value: (row: PinRow) => CqlValues[T]): Column => {
  const write = WRITE[type];
  return { type, value, write: (out, row) => write(out, value(row)) };
};

/** Table `userposts` as migrations/cql makes it; the partition key comes first. */
export const COLUMNS: Readonly<Record<string, Column>> = {
  unique_id: column('uuid', (row) => row.uniqueId),
  received_at: column('timestamp', (row) => Math.floor(row.receivedAtMicros / 1000)),
  received_at_micros: column('bigint', (row) => row.receivedAtMicros),
  category: column('text', (row) => row.category),
  index_no: column('int', (row) => row.indexNo),
  title: column('text', (row) => row.title),
  description: column('text', (row) => row.description),
  follower_count: column('bigint', (row) => row.followerCount),
  tag_list: column('frozen<list<text>>', (row) => row.tagList),
  is_image_or_video: column('text', (row) => row.isImageOrVideo),
  image_src: column('text', (row) => row.imageSrc),
  downloaded: column('int', (row) => row.downloaded),
  save_location: column('text', (row) => row.saveLocation),
  poster_name: column('text', (row) => row.posterName),
  is_error: column('boolean', (row) => row.isError),
  error_fields: column('frozen<list<text>>', (row) => row.errorFields),
  write_ts: column('bigint', (row) => row.writeTimestamp),
  log_partition: column('int', (row) => row.position.partition),
  log_offset: column('bigint', (row) => row.position.offset),
};

/** Beside the pin's own columns: which rebuild wrote the row. */
export const GENERATION = { name: 'generation', type: 'int' } as const;

const NAMES = Object.keys(COLUMNS);
const WRITES = Object.values(COLUMNS).map((column) => column.write);
/** Of {@link insertCql}: the columns, the generation, the timestamp. */
export const VALUE_COUNT = NAMES.length + 2;

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

/**
 * Writes the values of {@link insertCql} as they are sent.
 * @throws TypeError, RangeError for a value that its column cannot have; some are written then
 */
export const encodeRow = (out: BytesWriter, row: PinRow, generation: number): void => {
  for (const write of WRITES) write(out, row);
  WRITE.int(out, generation);
  WRITE.bigint(out, cellTimestamp(row.writeTimestamp, generation));
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

/** What Cassandra 5.0 counts of any row in a batch besides its encoded values (timestamps and such of its cells), bytes: measured. */
const CELLS_BYTES = 322;

/** What the row weighs in a batch, bytes. @param encoded see {@link encodeRow} */
export const sizeOf = (encoded: Buffer): number => CELLS_BYTES + encoded.length;
