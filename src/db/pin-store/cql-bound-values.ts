import { FrameWriter } from 'cassandra-driver/lib/writers';
import { LENGTH_BYTES } from './cql-encoding.ts';

/** Of a value: what is sent in its place, lengths and all. */
const ENCODED = Symbol('encoded values');

/** Bytes, which the driver's encoder takes for an encoded value. */
type Value = Buffer & { [ENCODED]?: Buffer };

/**
 * cassandra-driver 4.10.0 (pinned in package.json) sends a value as the length of its bytes and the bytes. A row's values are encoded
 * by us, all at once and with their lengths (cql-encoding.ts), and go out as they are; any other value as ever.
 */
const writeBytes = FrameWriter.prototype.writeBytes;
FrameWriter.prototype.writeBytes = function writeEncoded(bytes) {
  const encoded = (bytes as Value | null)?.[ENCODED];
  if (encoded === undefined) writeBytes.call(this, bytes);
  else if (encoded.length > 0) this.add(encoded);
};

/**
 * Adds nothing to what is sent. No type has such a value (three bytes, which are not UTF-8): were it ever sent as it is, by a driver that
 * writes values in another way, the cluster would refuse the row.
 */
const NOTHING: Value = Object.assign(Buffer.from([0xff, 0xff, 0xff]), { [ENCODED]: Buffer.alloc(0) });

/**
 * A row's values as the driver takes them: an array of as many as the statement has, of which it asks for the partition key alone, to
 * find the row's nodes. So the first is that key, and all of them are sent in its place.
 * @param encoded all values, each with its length; the first one is the partition key
 * @param count of them
 */
export const boundValues = (encoded: Buffer, count: number): Buffer[] => {
  const key: Value = encoded.subarray(LENGTH_BYTES, LENGTH_BYTES + encoded.readInt32BE(0));
  key[ENCODED] = encoded;
  const values = new Array<Buffer>(count).fill(NOTHING);
  values[0] = key;
  return values;
};
