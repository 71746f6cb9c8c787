import { type BytesWriter, createBytesWriter } from '../bytes-writer.ts';
import type { SpeedPin } from './speed-batch.ts';

/**
 * Rows of the speed view in the binary form of COPY (PostgreSQL manual, COPY, "Binary Format"): a third of the work of the
 * text form on our side, and the server parses no numbers, dates or arrays. docs/adr/0006-copy-through-a-staging-table.md has the figures.
 */
export const COPY_COLUMNS = [
  'unique_id',
  'received_at',
  'category',
  'index_no',
  'title',
  'description',
  'follower_count',
  'tag_list',
  'is_image_or_video',
  'image_src',
  'downloaded',
  'save_location',
  'poster_name',
  'source',
  'is_error',
  'error_fields',
  'write_ts',
  'log_partition',
  'log_offset',
] as const;

/** Signature, flags, length of the header's extension. */
const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER_BYTES = 2;
/** The server counts microseconds from here: 2000-01-01. */
const EPOCH_MICROS = 946_684_800_000_000;
const TEXT_OID = 25;
/** First guess for a row. */
const ROW_BYTES = 512;

const writeRow = (out: BytesWriter): ((row: SpeedPin) => void) => {
  const { int16, int32, int64 } = out;
  const text = (value: string | null) => (value === null ? int32(-1) : out.text(value));
  const int4 = (value: number) => {
    int32(4);
    int32(value);
  };
  const int8 = (value: number) => {
    int32(8);
    int64(value);
  };
  const writeTexts = (values: readonly string[]) => {
    int32(values.length === 0 ? 0 : 1);
    int32(0);
    int32(TEXT_OID);
    if (values.length > 0) {
      int32(values.length);
      int32(1);
    }
    for (const value of values) out.text(value);
  };
  const texts = (values: readonly string[] | null) => (values === null ? int32(-1) : out.sized(writeTexts, values));

  return (row) => {
    int16(COPY_COLUMNS.length);
    int32(16);
    out.uuid(row.uniqueId);
    int8(row.receivedAtMicros - EPOCH_MICROS);
    text(row.category);
    int4(row.indexNo);
    text(row.title);
    text(row.description);
    if (row.followerCount === null) int32(-1);
    else out.sized(out.bigint64, row.followerCount);
    texts(row.tagList);
    text(row.isImageOrVideo);
    text(row.imageSrc);
    int4(row.downloaded);
    text(row.saveLocation);
    text(row.posterName);
    text(row.source);
    int32(1);
    out.int8(row.isError ? 1 : 0);
    texts(row.errorFields);
    int8(row.writeTimestamp);
    int4(row.position.partition);
    int8(row.position.offset);
  };
};

/** @returns what follows `copy … (COPY_COLUMNS) from stdin (format binary)`, some 500 bytes a row */
export const copyRows = (rows: readonly SpeedPin[]): Buffer => {
  const out = createBytesWriter(HEADER.length + rows.length * ROW_BYTES + TRAILER_BYTES);
  const write = writeRow(out);
  out.raw(HEADER);
  for (const row of rows) write(row);
  out.int16(-1);
  return out.written();
};
