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
/** Of a row: all lengths and all values of fixed size, with room to spare. */
const FIXED_BYTES = 256;
/** Of an array: its dimensions; and of each element: its length. */
const ARRAY_BYTES = 24;
const ELEMENT_BYTES = 4;
/** UTF-16 units become at most three bytes each. */
const UTF8_BYTES = 3;
/** First guess for a row; the buffer doubles when it does not fit. */
const ROW_BYTES = 512;
const TWO_32 = 2 ** 32;

const textBound = (text: string | null) => (text === null ? 0 : text.length * UTF8_BYTES);
const arrayBound = (texts: readonly string[] | null) => {
  let bytes = ARRAY_BYTES;
  for (const text of texts ?? []) bytes += ELEMENT_BYTES + text.length * UTF8_BYTES;
  return bytes;
};
const rowBound = (row: SpeedPin) =>
  FIXED_BYTES +
  textBound(row.category) +
  textBound(row.title) +
  textBound(row.description) +
  textBound(row.isImageOrVideo) +
  textBound(row.imageSrc) +
  textBound(row.saveLocation) +
  textBound(row.posterName) +
  textBound(row.source) +
  arrayBound(row.tagList) +
  arrayBound(row.errorFields);

const createWriter = (capacity: number) => {
  let bytes = Buffer.allocUnsafe(capacity);
  let at = 0;

  const int32 = (value: number) => {
    bytes[at++] = value >>> 24;
    bytes[at++] = (value >>> 16) & 255;
    bytes[at++] = (value >>> 8) & 255;
    bytes[at++] = value & 255;
  };
  const text = (value: string | null) => {
    if (value === null) return int32(-1);
    const length = bytes.write(value, at + 4);
    int32(length);
    at += length;
  };

  return {
    text,
    /** Makes room for what is written next. */
    reserve: (more: number) => {
      if (at + more <= bytes.length) return;
      const larger = Buffer.allocUnsafe(Math.max(at + more, bytes.length * 2));
      bytes.copy(larger, 0, 0, at);
      bytes = larger;
    },
    raw: (given: Uint8Array) => {
      bytes.set(given, at);
      at += given.length;
    },
    int16: (value: number) => {
      bytes[at++] = (value >>> 8) & 255;
      bytes[at++] = value & 255;
    },
    bool: (value: boolean) => {
      int32(1);
      bytes[at++] = value ? 1 : 0;
    },
    int4: (value: number) => {
      int32(4);
      int32(value);
    },
    /** @param value a safe integer */
    int64: (value: number) => {
      const high = Math.floor(value / TWO_32);
      int32(8);
      int32(high);
      int32(value - high * TWO_32);
    },
    bigint: (value: bigint | null) => {
      if (value === null) return int32(-1);
      int32(8);
      at = bytes.writeBigInt64BE(value, at);
    },
    uuid: (value: string) => {
      int32(16);
      at += bytes.write(value.replaceAll('-', ''), at, 'hex');
    },
    texts: (values: readonly string[] | null) => {
      if (values === null) return int32(-1);
      const start = at;
      at += 4;
      int32(values.length === 0 ? 0 : 1);
      int32(0);
      int32(TEXT_OID);
      if (values.length > 0) {
        int32(values.length);
        int32(1);
      }
      for (const value of values) text(value);
      const end = at;
      at = start;
      int32(end - start - 4);
      at = end;
    },
    written: () => bytes.subarray(0, at),
  };
};

/** @returns what follows `copy … (COPY_COLUMNS) from stdin (format binary)`, some 500 bytes a row */
export const copyRows = (rows: readonly SpeedPin[]): Buffer => {
  const out = createWriter(HEADER.length + rows.length * ROW_BYTES + TRAILER_BYTES);
  out.raw(HEADER);
  for (const row of rows) {
    out.reserve(rowBound(row) + TRAILER_BYTES);
    out.int16(COPY_COLUMNS.length);
    out.uuid(row.uniqueId);
    out.int64(row.receivedAtMicros - EPOCH_MICROS);
    out.text(row.category);
    out.int4(row.indexNo);
    out.text(row.title);
    out.text(row.description);
    out.bigint(row.followerCount);
    out.texts(row.tagList);
    out.text(row.isImageOrVideo);
    out.text(row.imageSrc);
    out.int4(row.downloaded);
    out.text(row.saveLocation);
    out.text(row.posterName);
    out.text(row.source);
    out.bool(row.isError);
    out.texts(row.errorFields);
    out.int64(row.writeTimestamp);
    out.int4(row.position.partition);
    out.int64(row.position.offset);
  }
  out.int16(-1);
  return out.written();
};
