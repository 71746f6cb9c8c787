import { readManifestEntry } from '../blob/archive.ts';
import { readArchiveText } from '../blob/archive-object.ts';
import type { BlobStore } from '../blob/blob.ts';
import type { KnownObject } from '../db/postgres/ledger.ts';
import { isPinflowError, messageOf } from '../errors.ts';
import type { Quality } from '../pin/quality.ts';
import { cleanEachLine } from './clean-lines.ts';

/** What cleaning an object gives, as counts; or why it is damaged. Plain data: processes tell it each other. */
export type ObjectCount =
  | { readonly pins: number; readonly errors: number; readonly rejects: number; readonly quality: Quality }
  | { readonly damaged: string };

/** Of an object, what it takes to find it. */
export type ObjectPlace = Pick<KnownObject, 'partition' | 'firstOffset'>;

/** @throws PinflowError `blob_unavailable` */
export type CountObject = (object: ObjectPlace) => Promise<ObjectCount>;

/** Reads and cleans objects and keeps nothing but counts. */
export const objectCounter =
  (store: BlobStore): CountObject =>
  async ({ partition, firstOffset }) => {
    try {
      const entry = await readManifestEntry(store, { partition, offset: firstOffset });
      if (entry === null) return { damaged: 'it is not in the manifest' };
      const { rejected, ...counts } = await cleanEachLine(await readArchiveText(store, entry), () => {});
      return { ...counts, rejects: rejected.length };
    } catch (error) {
      if (isPinflowError(error, 'corrupt_object')) return { damaged: messageOf(error) };
      throw error;
    }
  };
