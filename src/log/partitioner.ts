/**
 * Kafka's default partitioner, so that a key is in the same partition whoever wrote it: murmur2 as in the Java client
 * (org.apache.kafka.common.utils.Utils.murmur2), its sign bit dropped, modulo the number of partitions.
 */
const SEED = 0x9747b28c;
const M = 0x5bd1e995;
const R = 24;

/** Signed 32-bit, as Java's `int`. Hashes the first `length` bytes. */
export const murmur2 = (bytes: Uint8Array, length = bytes.length): number => {
  let h = SEED ^ length;
  const tail = length & ~3;
  for (let i = 0; i < tail; i += 4) {
    let k = at(bytes, i) | (at(bytes, i + 1) << 8) | (at(bytes, i + 2) << 16) | (at(bytes, i + 3) << 24);
    k = Math.imul(k, M);
    k = Math.imul(k ^ (k >>> R), M);
    h = Math.imul(h, M) ^ k;
  }
  const rest = length - tail;
  if (rest > 2) h ^= at(bytes, tail + 2) << 16;
  if (rest > 1) h ^= at(bytes, tail + 1) << 8;
  if (rest > 0) h = Math.imul(h ^ at(bytes, tail), M);
  h = Math.imul(h ^ (h >>> 13), M);
  return h ^ (h >>> 15);
};

const at = (bytes: Uint8Array, i: number): number => bytes[i] as number;

const encoder = new TextEncoder();
/** Keys of up to a third of this many UTF-16 units are encoded without an allocation; a pin's key has 36. */
const SCRATCH_BYTES = 1024;
const scratch = new Uint8Array(SCRATCH_BYTES);

const hashOf = (key: string): number => {
  if (key.length * 3 > SCRATCH_BYTES) return murmur2(encoder.encode(key));
  return murmur2(scratch, encoder.encodeInto(key, scratch).written);
};

/** @param partitions of the topic, at least 1 @returns 0 to partitions - 1 */
export const partitionOf = (key: string, partitions: number): number => (hashOf(key) & 0x7fffffff) % partitions;
