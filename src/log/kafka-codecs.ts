import { CompressionCodecs, CompressionTypes } from 'kafkajs';
import { decompressFrameSync } from 'lz4-napi';
import { uncompressSync } from 'snappy';

/**
 * Codecs kafkajs leaves out. pinflow writes zstd, at the level that costs the edge least; records of other producers may come
 * in any of them (gzip is kafkajs' own).
 */
const ZSTD_LEVEL = 1;
/** From this size on another thread compresses, bytes: below it the way there and back costs more than the work. */
const OFF_THREAD_BYTES = 64 * 1024;

/** What kafkajs hands over to be compressed. */
type Encoded = { readonly buffer: Buffer };

const refuse = (name: string) => async (): Promise<Buffer> => {
  throw new Error(`${name} is read, not written`);
};

/** The header snappy-java puts before blocks of its own; librdkafka and others write one bare block. */
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
/** Its magic bytes, a version and a compatible version. */
const XERIAL_HEADER_BYTES = 16;

/** A block that begins with length 0 is an empty one; the native code cannot hand over nothing on Bun. */
const decompressBlock = (block: Buffer): Buffer =>
  block[0] === 0 ? Buffer.alloc(0) : (uncompressSync(block, { asBuffer: true }) as Buffer);

/** A bare snappy block, or snappy-java's sequence of blocks, each after its length. */
export const decompressSnappy = (bytes: Buffer): Buffer => {
  if (!bytes.subarray(0, XERIAL.length).equals(XERIAL)) return decompressBlock(bytes);
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEADER_BYTES; at < bytes.length; ) {
    const length = bytes.readInt32BE(at);
    blocks.push(decompressBlock(bytes.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(blocks);
};

/** Tells kafkajs, whose table of codecs is one for the process. Idempotent. */
export const registerCodecs = (): void => {
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async ({ buffer }: Encoded) =>
      buffer.length < OFF_THREAD_BYTES
        ? Bun.zstdCompressSync(buffer, { level: ZSTD_LEVEL })
        : Bun.zstdCompress(buffer, { level: ZSTD_LEVEL }),
    decompress: async (bytes: Buffer) => Bun.zstdDecompressSync(bytes),
  });
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: refuse('lz4'),
    decompress: async (bytes: Buffer) => decompressFrameSync(bytes),
  });
  CompressionCodecs[CompressionTypes.Snappy] = () => ({
    compress: refuse('snappy'),
    decompress: async (bytes: Buffer) => decompressSnappy(bytes),
  });
};
