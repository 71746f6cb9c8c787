import { PinflowError } from '../errors.ts';
import type { BlobMetadata } from './blob.ts';

const SEGMENT = '(?!\\.)[A-Za-z0-9=_.-]{1,180}';
const SEGMENTS = new RegExp(`^${SEGMENT}(/${SEGMENT})*$`);
const PREFIX = new RegExp(`^(${SEGMENT}/)*(${SEGMENT})?$`);
const METADATA_NAME = /^[a-z0-9-]+$/;
/** Without space at either end: HTTP would take that off. */
const METADATA_VALUE = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/;

/** Bytes. */
const MAX_KEY_BYTES = 512;
/** Bytes of all names and values: S3's limit. */
const MAX_METADATA_BYTES = 2048;

const refuse = (message: string): never => {
  throw new PinflowError('internal', message);
};

/** Whether one path segment can stand in a key. */
export const isSegment = (name: string): boolean => SEGMENTS.test(name) && !name.includes('/');

/** @throws PinflowError `internal`: a key is made by this program, so a wrong one is its own mistake */
export const checkKey = (key: string): void => {
  if (key.length > MAX_KEY_BYTES || !SEGMENTS.test(key)) {
    refuse(
      `blob key ${JSON.stringify(key.slice(0, 80))} should be at most ${MAX_KEY_BYTES} bytes of segments of A-Za-z0-9=_.- that do not begin with a dot`,
    );
  }
};

/** @throws PinflowError `internal` */
export const checkPrefix = (prefix: string): void => {
  if (!PREFIX.test(prefix)) refuse(`blob prefix ${JSON.stringify(prefix.slice(0, 80))} cannot begin any key`);
};

/** @throws PinflowError `internal` */
export const checkMetadata = (metadata: BlobMetadata): void => {
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata)) {
    bytes += name.length + value.length;
    if (!METADATA_NAME.test(name) || !METADATA_VALUE.test(value)) {
      refuse(`blob metadata ${JSON.stringify(name)} should be a-z0-9- with a value of printable ASCII`);
    }
  }
  if (bytes > MAX_METADATA_BYTES) refuse(`blob metadata has ${bytes} bytes; at most ${MAX_METADATA_BYTES} are allowed`);
};
