/**
 * The port of the object store: immutable objects under keys, listed in the order of their keys' UTF-8 bytes.
 * Keys are `/`-separated, without a leading slash, of the characters `A-Za-z0-9=_.-/`, at most 512 bytes long; a segment is at most
 * 180 bytes and does not begin with a dot. No key is the folder of another. Adapters check this (key.ts).
 */
export type BlobMetadata = Readonly<Record<string, string>>;

export type BlobInfo = {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
};

export type Blob = BlobInfo & {
  readonly bytes: Uint8Array;
  /** Keys lower-case `a-z0-9-`, values printable ASCII; all of it at most 2 KB (S3's limit). */
  readonly metadata: BlobMetadata;
};

export type PutOptions = {
  readonly metadata?: BlobMetadata;
  readonly contentType?: string;
  /** Only if no object has this key (If-None-Match: *). False overwrites. */
  readonly ifAbsent: boolean;
};

export type ListOptions = {
  readonly prefix: string;
  /** Only keys strictly after this one. */
  readonly startAfter?: string;
};

/** What an adapter cannot do, it says here; the contract suite skips exactly that. */
export type BlobSupports = {
  /** `ifAbsent` is atomic: of two writers at once exactly one gets `created`. */
  readonly conditionalPut: boolean;
};

/** What somebody who runs the archive on a store without `conditionalPut` must know. */
export const ONE_ARCHIVE_WORKER =
  'this server does not honour If-None-Match: run one archive worker in all (WORKERS_ARCHIVE=1, in one process), as of two the later write of an object would replace the earlier';

export type BlobStore = {
  readonly kind: 'fs' | 's3';
  /** For people: where it is, without secrets. */
  readonly location: string;
  readonly supports: BlobSupports;
  /**
   * Durable when it resolves (fs: file and folder fsynced). `exists`: `ifAbsent` was asked and the key is taken; nothing was written.
   * @throws PinflowError `disk_full`, `blob_unavailable` (retryable or not, by cause)
   */
  readonly put: (key: string, bytes: Uint8Array, options: PutOptions) => Promise<'created' | 'exists'>;
  readonly get: (key: string) => Promise<Blob | null>;
  /** The metadata and size without the bytes. */
  readonly head: (key: string) => Promise<(BlobInfo & { readonly metadata: BlobMetadata }) | null>;
  /** Pages behind the scenes; memory does not grow with the number of objects. */
  readonly list: (options: ListOptions) => AsyncIterable<BlobInfo>;
  /** The distinct next path segments under `prefix` (which ends in `/`), without the slash, in order. */
  readonly folders: (prefix: string) => Promise<readonly string[]>;
  /** Deleting what is not there is not an error. */
  readonly delete: (key: string) => Promise<void>;
  /** Cheap call that fails with the reason when the store cannot be used (bucket missing, wrong credentials, read-only). */
  readonly check: () => Promise<void>;
  readonly close: () => Promise<void>;
};
