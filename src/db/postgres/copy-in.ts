import type { Writable } from 'node:stream';
import type { TransactionSql } from 'postgres';

/** A message of this size is being read by the server while the next is on its way. */
const CHUNK_BYTES = 256 * 1024;

type CopyQuery = ReturnType<TransactionSql['unsafe']> & { reject: (error: unknown) => void };

/**
 * Rejects with what the server says of a COPY. The driver (postgres 3.4.9) has settled the query by the time it hands out the
 * stream, and tells nobody of an error that comes after the last byte: `final` of its stream is then never called. It
 * still rejects the query, which is where this listens.
 */
const failureOf = (query: CopyQuery): Promise<never> => {
  const failed = Promise.withResolvers<never>();
  const { reject } = query;
  query.reject = (error) => {
    failed.reject(error);
    reject.call(query, error);
  };
  // Nobody waits for it once the copy is through.
  failed.promise.catch(() => {});
  return failed.promise;
};

const send = (stream: Writable, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    stream.once('error', reject);
    stream.once('finish', resolve);
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) stream.write(bytes.subarray(at, at + CHUNK_BYTES));
    stream.end();
  });

/**
 * COPY … FROM STDIN inside a transaction. Resolves when the server has taken all of it; nothing else may be asked meanwhile.
 * @throws what the driver throws
 */
export const copyIn = async (tx: TransactionSql, statement: string, bytes: Buffer): Promise<void> => {
  const query = tx.unsafe(statement) as CopyQuery;
  const failed = failureOf(query);
  const stream = await query.writable();
  // The driver's would write to its socket, which is null by then if the connection was closed: it would never get over it.
  stream._destroy = (error, done) => done(error);
  await Promise.race([send(stream, bytes), failed]);
};
