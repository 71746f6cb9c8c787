import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { Config } from '../config.ts';
import { PinflowError } from '../errors.ts';
import { retry } from '../retry.ts';
import type { Blob, BlobInfo, BlobStore, ListOptions, PutOptions } from './blob.ts';
import { checkKey, checkMetadata, checkPrefix } from './key.ts';
import { isConflict, isNoSuchKey, isNotImplemented, isTaken, s3Error } from './s3-errors.ts';

export type S3Config = Pick<
  Config,
  'S3_BUCKET' | 'S3_ENDPOINT' | 'S3_PREFIX' | 'S3_SSE' | 'AWS_REGION' | 'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY'
>;

const MIB = 1024 * 1024;

export const S3_LIMITS = {
  /** Calls of one operation in all, made by the client on network errors, throttling and 5xx. */
  attempts: 3,
  /** To open a connection, milliseconds. */
  connectMs: 5000,
  /** From sending a request to the head of its answer, milliseconds: a part at half a megabyte a second fits. */
  requestMs: 30_000,
  /** Without a byte in either direction, milliseconds. */
  idleMs: 20_000,
  /** Larger objects go up in parts, bytes. */
  multipartBytes: 16 * MIB,
  /** Of one part, bytes; S3 asks for at least 5 MiB, and 10,000 parts are its most. */
  partBytes: 8 * MIB,
  /** Parts under way at once; each is a view of the object's bytes, so it costs connections, not memory. */
  partsAtOnce: 4,
  /** Calls in all while two conditional writes of one key are in each other's way, and the first wait between, milliseconds. */
  conflictAttempts: 8,
  conflictWaitMs: 50,
} as const;

type Limits = { readonly [K in keyof typeof S3_LIMITS]: number };

/** One tiny object that shows whether the server honours If-None-Match. It stays: a delete would need a right of its own. */
const PROBE_KEY = 'probe/conditional-put';

const createClient = (config: S3Config, limits: Limits): S3Client => {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = config;
  return new S3Client({
    region: config.AWS_REGION,
    endpoint: config.S3_ENDPOINT,
    forcePathStyle: config.S3_ENDPOINT !== undefined,
    credentials: accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : undefined,
    // Other servers than AWS do not know the newer checksums; the signature covers the bytes, and the archive has its own digest.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: limits.attempts,
    requestHandler: {
      connectionTimeout: limits.connectMs,
      requestTimeout: limits.requestMs,
      socketTimeout: limits.idleMs,
      throwOnRequestTimeout: true,
    },
  });
};

/** The SDK wants Buffers: a stream could not be sent again. No copy. */
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

type Target = { readonly Bucket: string; readonly Key: string };

/** Writes of one bucket; each throws what the client throws. */
const createWriter = (client: S3Client, config: S3Config, limits: Limits) => {
  const about = ({ metadata, contentType }: PutOptions) => ({
    Metadata: { ...metadata },
    ContentType: contentType,
    ServerSideEncryption: config.S3_SSE,
  });

  const putWhole = async (target: Target, bytes: Uint8Array, options: PutOptions): Promise<void> => {
    const IfNoneMatch = options.ifAbsent ? '*' : undefined;
    await client.send(new PutObjectCommand({ ...target, ...about(options), Body: asBuffer(bytes), IfNoneMatch }));
  };

  const uploadParts = async (target: Target, UploadId: string | undefined, bytes: Uint8Array) => {
    const upload = async (PartNumber: number) => {
      const start = (PartNumber - 1) * limits.partBytes;
      const Body = asBuffer(bytes.subarray(start, start + limits.partBytes));
      const { ETag } = await client.send(new UploadPartCommand({ ...target, UploadId, PartNumber, Body }));
      return { PartNumber, ETag };
    };
    const numbers = Array.from({ length: Math.ceil(bytes.length / limits.partBytes) }, (_, i) => i + 1);
    const parts: Awaited<ReturnType<typeof upload>>[] = [];
    for (let i = 0; i < numbers.length; i += limits.partsAtOnce) {
      parts.push(...(await Promise.all(numbers.slice(i, i + limits.partsAtOnce).map(upload))));
    }
    return parts;
  };

  const putInParts = async (target: Target, bytes: Uint8Array, options: PutOptions): Promise<void> => {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...target, ...about(options) }));
    try {
      const MultipartUpload = { Parts: await uploadParts(target, UploadId, bytes) };
      const IfNoneMatch = options.ifAbsent ? '*' : undefined;
      await client.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload, IfNoneMatch }));
    } catch (error) {
      // Parts that stay are paid for; where this fails too, the bucket's lifecycle rule for them is the last resort.
      await client.send(new AbortMultipartUploadCommand({ ...target, UploadId })).catch(() => {});
      throw error;
    }
  };

  const put = async (target: Target, bytes: Uint8Array, options: PutOptions): Promise<'created' | 'exists'> => {
    try {
      await retry(() => (bytes.length > limits.multipartBytes ? putInParts : putWhole)(target, bytes, options), {
        attempts: limits.conflictAttempts,
        baseMs: limits.conflictWaitMs,
        maxMs: limits.conflictWaitMs * 20,
        retryable: isConflict,
      });
      return 'created';
    } catch (error) {
      if (options.ifAbsent && isTaken(error)) return 'exists';
      throw error;
    }
  };

  return { put };
};

/** Finds out once whether `put` with `ifAbsent` is honoured: not all servers know If-None-Match, and some ignore it. */
const createProbe = (put: (ifAbsent: true) => Promise<'created' | 'exists'>) => {
  let asked: Promise<boolean> | null = null;
  let answer: boolean | null = null;
  const ask = async (): Promise<boolean> => {
    try {
      // The key stays taken, so that a second `created` can only come from a server that ignores the condition.
      answer = (await put(true)) === 'exists' || (await put(true)) === 'exists';
    } catch (error) {
      if (!isNotImplemented(error)) throw error;
      answer = false;
    }
    return answer;
  };
  return {
    /** True until it is known to be otherwise. */
    assumed: () => answer ?? true,
    honoured: (): Promise<boolean> => {
      asked ??= ask().catch((error) => {
        asked = null;
        throw error;
      });
      return asked;
    },
  };
};

const createReader = (client: S3Client, bucket: string, prefix: string) => {
  const pages = async function* (query: { Prefix: string; StartAfter?: string; Delimiter?: string; MaxKeys?: number }) {
    let ContinuationToken: string | undefined;
    do {
      const page: ListObjectsV2CommandOutput = await client.send(
        new ListObjectsV2Command({ Bucket: bucket, ...query, ContinuationToken }),
      );
      yield page;
      ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (ContinuationToken !== undefined);
  };

  return {
    pages,
    get: async (key: string): Promise<Blob> => {
      const found = await client.send(new GetObjectCommand({ Bucket: bucket, Key: prefix + key }));
      const bytes = (await found.Body?.transformToByteArray()) ?? new Uint8Array();
      return { key, size: bytes.length, bytes, metadata: found.Metadata ?? {} };
    },
    head: async (key: string) => {
      const found = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: prefix + key }));
      return { key, size: found.ContentLength ?? 0, metadata: found.Metadata ?? {} };
    },
    list: async function* ({ prefix: below, startAfter }: ListOptions): AsyncGenerator<BlobInfo> {
      const StartAfter = startAfter === undefined ? undefined : prefix + startAfter;
      for await (const page of pages({ Prefix: prefix + below, StartAfter })) {
        for (const { Key = '', Size = 0 } of page.Contents ?? []) yield { key: Key.slice(prefix.length), size: Size };
      }
    },
    folders: async (below: string): Promise<readonly string[]> => {
      const names: string[] = [];
      for await (const page of pages({ Prefix: prefix + below, Delimiter: '/' })) {
        for (const { Prefix = '' } of page.CommonPrefixes ?? []) {
          names.push(Prefix.slice(prefix.length + below.length, -1));
        }
      }
      return names;
    },
  };
};

const nullWhenAbsent = (error: unknown): null => {
  if (isNoSuchKey(error)) return null;
  throw error;
};

/**
 * The object store in an S3 bucket. Nothing is asked of the server before the first call.
 *
 * On a server without If-None-Match, `ifAbsent` looks first and then puts: two writers in the same moment may both create,
 * and `supports.conditionalPut` is false (known after `check` or the first such put).
 */
export const openS3BlobStore = (config: S3Config, limits: Limits = S3_LIMITS): BlobStore => {
  const { S3_BUCKET: Bucket, S3_PREFIX: prefix } = config;
  if (Bucket === undefined) throw new PinflowError('config', 'S3_BUCKET is not set: set it to use an S3 object store');
  const place = config.S3_ENDPOINT === undefined ? config.AWS_REGION : new URL(config.S3_ENDPOINT).host;
  const location = `s3://${Bucket}/${prefix} at ${place}`;
  const client = createClient(config, limits);
  const writer = createWriter(client, config, limits);
  const reader = createReader(client, Bucket, prefix);
  const target = (key: string) => ({ Bucket, Key: prefix + key });
  const probe = createProbe((ifAbsent) => writer.put(target(PROBE_KEY), Buffer.from('probe\n'), { ifAbsent }));

  const run = async <T>(doing: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw s3Error(doing, location, error);
    }
  };

  const head = (key: string) =>
    run(`read ${key}`, async () => {
      checkKey(key);
      return reader.head(key).catch(nullWhenAbsent);
    });

  const put = (key: string, bytes: Uint8Array, options: PutOptions) =>
    run(`write ${key}`, async () => {
      checkKey(key);
      checkMetadata(options.metadata ?? {});
      if (!options.ifAbsent || (await probe.honoured())) return writer.put(target(key), bytes, options);
      if ((await head(key)) !== null) return 'exists';
      return writer.put(target(key), bytes, { ...options, ifAbsent: false });
    });

  async function* list(options: ListOptions): AsyncGenerator<BlobInfo> {
    checkPrefix(options.prefix);
    try {
      yield* reader.list(options);
    } catch (error) {
      throw s3Error(`list ${options.prefix}`, location, error);
    }
  }

  return {
    kind: 's3',
    location,
    get supports() {
      return { conditionalPut: probe.assumed() };
    },
    put,
    get: (key) =>
      run(`read ${key}`, async () => {
        checkKey(key);
        return reader.get(key).catch(nullWhenAbsent);
      }),
    head,
    list,
    folders: (below) =>
      run(`list ${below}`, async () => {
        checkPrefix(below);
        return reader.folders(below);
      }),
    delete: (key) =>
      run(`delete ${key}`, async () => {
        checkKey(key);
        await client.send(new DeleteObjectCommand(target(key)));
      }),
    check: () =>
      run('work', async () => {
        const { value: page } = await reader.pages({ Prefix: prefix, MaxKeys: 1 }).next();
        if (!page || page.KeyCount === undefined) {
          throw new PinflowError('blob_unavailable', `what answers at ${place} is not S3: check S3_ENDPOINT`);
        }
        await probe.honoured();
      }),
    close: async () => client.destroy(),
  };
};
