import { join } from 'node:path';
import type { Config } from '../config.ts';
import type { BlobStore } from './blob.ts';
import { openFsBlobStore } from './fs.ts';

/**
 * The object store the configuration asks for: S3 with S3_BUCKET, else files in DATA_DIR/archive. Asks nothing of a server yet.
 * The S3 client is loaded only where it is asked for: it costs start-up time and memory in every thread.
 */
export const openBlobStore = async (config: Config): Promise<BlobStore> => {
  if (config.S3_BUCKET === undefined) return openFsBlobStore({ dir: join(config.DATA_DIR, 'archive') });
  const { openS3BlobStore } = await import('./s3.ts');
  return openS3BlobStore(config);
};
