import fs from 'node:fs';
import { join, resolve } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { NodeFS } from '@electric-sql/pglite/nodefs';
import { messageOf, PinflowError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { serveSession } from './session-server.ts';

export type EmbeddedPostgres = {
  /** What DATABASE_URL would be: for any client on this machine. */
  readonly url: string;
  /** Rejects when the engine has failed and must be started anew; resolves after `close`. */
  readonly done: Promise<void>;
  readonly close: () => Promise<void>;
};

/** WASI's EIO. Postgres stops when a sync fails, as it must: what it had written may be gone. */
const EIO = 29;

/** PGlite's own 128 MB stay in memory for good once they were touched; the operating system caches the files anyway. */
const SHARED_BUFFERS = '16MB';

/** As PGlite starts it, without its `-F` (fsync off), and with the one sync call that its WASM build passes on. */
const DURABLE = [
  ...PGlite.defaultStartParams.filter((param) => param !== '-F'),
  '-c',
  'fsync=on',
  '-c',
  'wal_sync_method=fsync',
  '-c',
  `shared_buffers=${SHARED_BUFFERS}`,
];

type Stream = { readonly nfd: number };
type WithNodeFs = { readonly NODEFS: { readonly stream_ops: { fsync?: (stream: Stream) => number } } };

/**
 * A folder as PGlite's file system, with fsync: the file system it comes with answers Postgres that all is synced and
 * does nothing. A commit is then on disk when it is answered, as with a real server.
 */
const durableFiles = (dir: string): NodeFS => {
  const files = new NodeFS(dir);
  const init = files.init.bind(files);
  files.init = async (pg, options) => {
    const { emscriptenOpts } = await init(pg, options);
    const addFsync = (module: unknown) => {
      (module as WithNodeFs).NODEFS.stream_ops.fsync = ({ nfd }) => {
        try {
          fs.fsyncSync(nfd);
          return 0;
        } catch {
          return EIO;
        }
      };
    };
    return { emscriptenOpts: { ...emscriptenOpts, preRun: [...(emscriptenOpts.preRun ?? []), addFsync] } };
  };
  return files;
};

/** The folder's creation as a program of its own: initdb in WASM takes 1 GB, which a process that lives on would not give back. */
const CREATE = Bun.fileURLToPath(new URL('./create-cluster.ts', import.meta.url));

const ensureCluster = async (dir: string): Promise<void> => {
  if (fs.existsSync(join(dir, 'PG_VERSION'))) return;
  const child = Bun.spawn([process.execPath, CREATE, dir], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
  const [problem, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (code !== 0) throw new Error(problem.trim() || `its creation ended with ${code}`);
};

/** @param port as given to {@link startEmbeddedPostgres} */
export const embeddedPostgresUrl = (port: number): string => `postgres://postgres@127.0.0.1:${port}/postgres`;

/**
 * Starts a Postgres in this thread on 127.0.0.1, its data under `dir`. It computes in this thread: give it one of its own.
 * The first start creates the data (seconds), later ones take under a second. One process at a time may use `dir`.
 *
 * @param port 0 takes a free one
 * @throws PinflowError `postgres_unavailable` when the data cannot be opened, `in_use` when the port is taken
 */
export const startEmbeddedPostgres = async ({
  dir: folder,
  port,
  logger,
}: {
  readonly dir: string;
  readonly port: number;
  readonly logger: Logger;
}): Promise<EmbeddedPostgres> => {
  const dir = resolve(folder);
  const { promise: done, resolve: stopped, reject: failed } = Promise.withResolvers<void>();
  done.catch(() => undefined);
  const db = await openCluster(dir);
  const server = await serveSession({
    session: {
      execute: (messages, onData) => db.execProtocolRawStream(messages, { syncToFs: false, onRawData: onData }),
      inTransaction: () => db.isInTransaction(),
    },
    port,
    logger,
    onFailure: (error) => failed(unusable(dir, error)),
  }).catch(async (error: unknown) => {
    await db.close();
    throw error;
  });
  let closing: Promise<void> | undefined;
  const close = async () => {
    await server.close();
    await db.close();
    stopped();
  };
  return {
    url: embeddedPostgresUrl(server.port),
    done,
    close: () => (closing ??= close()),
  };
};

const unusable = (dir: string, cause: unknown) =>
  new PinflowError('postgres_unavailable', `the embedded Postgres in ${dir} does not work: ${messageOf(cause)}.`, {
    retryable: true,
    cause,
  });

const openCluster = async (dir: string): Promise<PGlite> => {
  try {
    await ensureCluster(dir);
    return await PGlite.create({ fs: durableFiles(dir), startParams: DURABLE });
  } catch (error) {
    throw unusable(dir, error);
  }
};
