/**
 * A buffer that grows while numbers and texts are written to it, big-endian, as the binary forms of databases want them. Several
 * times as fast as a small buffer for each value.
 */
export type BytesWriter = {
  readonly int8: (value: number) => void;
  readonly int16: (value: number) => void;
  readonly int32: (value: number) => void;
  /** @param value a safe integer */
  readonly int64: (value: number) => void;
  /** @param value fits a signed 64-bit integer */
  readonly bigint64: (value: bigint) => void;
  readonly raw: (value: Uint8Array) => void;
  /** The 16 bytes of a UUID, whichever way its digits are spelt. */
  readonly uuid: (value: string) => void;
  /** Length in bytes as int32, then UTF-8. */
  readonly text: (value: string) => void;
  /** Writes something and puts its length in bytes, as int32, before it. */
  readonly sized: <T>(write: (value: T) => void, value: T) => void;
  /** Bytes written so far. */
  readonly length: () => number;
  /** Takes back what was written after the first so many bytes. */
  readonly cut: (length: number) => void;
  readonly written: () => Buffer;
};

/** UTF-16 units become at most three bytes each. */
const UTF8_BYTES = 3;
/** The largest value of fixed size. */
const VALUE_BYTES = 16;
const TWO_32 = 2 ** 32;
/** Up to so many units a loop here is done before a call of the engine's own encoder has begun: tags and names. */
const SHORT_UNITS = 24;
const ASCII_END = 0x80;
/** Between groups of a UUID, each of which has an even number of digits. */
const HYPHEN = 0x2d;

const HEX = Uint8Array.from({ length: ASCII_END }, (_, code) => Number.parseInt(String.fromCharCode(code), 16) || 0);
const hexAt = (text: string, at: number) => HEX[text.charCodeAt(at)] as number;

/** @returns how many bytes it was; -1 for a text that is not ASCII */
const writeAscii = (bytes: Buffer, at: number, value: string): number => {
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit >= ASCII_END) return -1;
    bytes[at + i] = unit;
  }
  return value.length;
};

const writeInt32 = (bytes: Buffer, at: number, value: number): void => {
  bytes[at] = value >>> 24;
  bytes[at + 1] = (value >>> 16) & 255;
  bytes[at + 2] = (value >>> 8) & 255;
  bytes[at + 3] = value & 255;
};

const writeUuid = (bytes: Buffer, from: number, value: string): void => {
  let at = from;
  for (let i = 0; i < value.length; i += 2) {
    if (value.charCodeAt(i) === HYPHEN) i++;
    bytes[at++] = (hexAt(value, i) << 4) | hexAt(value, i + 1);
  }
};

/** @param capacity first guess, bytes: doubles when it does not do */
export const createBytesWriter = (capacity: number): BytesWriter => {
  let bytes = Buffer.allocUnsafe(Math.max(capacity, VALUE_BYTES));
  let at = 0;

  /** Makes room for so many bytes more, and passes over them. @returns where they begin */
  const take = (size: number): number => {
    if (at + size > bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(at + size, bytes.length * 2));
      bytes.copy(larger, 0, 0, at);
      bytes = larger;
    }
    at += size;
    return at - size;
  };
  const int32 = (value: number) => {
    const from = take(4);
    writeInt32(bytes, from, value);
  };
  const text = (value: string) => {
    const from = take(4 + value.length * UTF8_BYTES);
    const short = value.length <= SHORT_UNITS ? writeAscii(bytes, from + 4, value) : -1;
    const length = short < 0 ? bytes.write(value, from + 4) : short;
    writeInt32(bytes, from, length);
    at = from + 4 + length;
  };

  return {
    int8: (value) => {
      const from = take(1);
      bytes[from] = value;
    },
    int16: (value) => {
      const from = take(2);
      bytes[from] = (value >>> 8) & 255;
      bytes[from + 1] = value & 255;
    },
    int32,
    int64: (value) => {
      const high = Math.floor(value / TWO_32);
      int32(high);
      int32(value - high * TWO_32);
    },
    bigint64: (value) => {
      const from = take(8);
      bytes.writeBigInt64BE(value, from);
    },
    raw: (value) => {
      const from = take(value.length);
      bytes.set(value, from);
    },
    uuid: (value) => {
      const from = take(16);
      writeUuid(bytes, from, value);
    },
    text,
    sized: (write, value) => {
      const from = take(4);
      write(value);
      writeInt32(bytes, from, at - from - 4);
    },
    length: () => at,
    cut: (length) => {
      at = length;
    },
    written: () => bytes.subarray(0, at),
  };
};
