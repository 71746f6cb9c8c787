import { PinflowError } from '../errors.ts';
import { withDeadline } from '../retry.ts';

export type BodyLimits = {
  /** Bytes, after inflating. */
  readonly maxBytes: number;
  /** Name of the setting that bounds it, for the message. */
  readonly setting: string;
  /** Milliseconds a body may take; bytes that come earn more, see {@link MIN_BYTES_PER_SECOND}. */
  readonly timeoutMs: number;
  readonly gzip: boolean;
};

/** A body known to be at most this long is read in one piece; 64 KiB holds any usual pin and is little to promise in advance. */
const ONE_PIECE_BYTES = 64 * 1024;
/** Slower than this, after the first timeout, is a client that holds memory and sends nothing. */
const MIN_BYTES_PER_SECOND = 16 * 1024;

const tooLarge = (limits: BodyLimits) =>
  new PinflowError(
    'too_large',
    `the body is larger than ${limits.maxBytes} bytes: send less, or raise ${limits.setting}`,
  );

const tooSlow = (limits: BodyLimits) =>
  new PinflowError(
    'slow_body',
    `the body did not arrive within ${limits.timeoutMs} ms (REQUEST_TIMEOUT_MS); nothing was kept, send it again`,
    { retryable: true },
  );

/** Waits for a piece of the body; one that breaks off or does not inflate is the sender's doing. */
const arrival = async <T>(piece: Promise<T>, ms: number, limits: BodyLimits, broken: string): Promise<T> => {
  try {
    return await withDeadline(piece, ms, () => tooSlow(limits));
  } catch (error) {
    if (error instanceof PinflowError) throw error;
    throw new PinflowError('malformed_json', `the body ${broken}: send it again`, { cause: error });
  }
};

const concat = (chunks: readonly Uint8Array[], length: number): Uint8Array => {
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0];
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
};

const readStream = async (
  stream: ReadableStream<Uint8Array>,
  limits: BodyLimits,
  take: (bytes: number) => void,
): Promise<Uint8Array> => {
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  const startedAt = performance.now();
  let length = 0;
  try {
    for (;;) {
      const dueMs = limits.timeoutMs + (length / MIN_BYTES_PER_SECOND) * 1000 - (performance.now() - startedAt);
      const { done, value } = await arrival(
        reader.read(),
        dueMs,
        limits,
        limits.gzip ? 'is not whole gzip' : 'broke off',
      );
      if (done) return concat(chunks, length);
      length += value.byteLength;
      if (length > limits.maxBytes) throw tooLarge(limits);
      take(value.byteLength);
      chunks.push(value);
    }
  } catch (error) {
    // Not awaited: a sender that stalls would stall this too.
    void reader.cancel().catch(() => undefined);
    throw error;
  }
};

/** Adapts the two type worlds of streams: Bun's own declaration wants ArrayBuffer-backed chunks. */
const inflate = (stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> =>
  stream.pipeThrough(new DecompressionStream('gzip') as unknown as ReadableWritablePair<Uint8Array, Uint8Array>);

const isGzip = (request: Request, allowed: boolean): boolean => {
  const encoding = request.headers.get('content-encoding');
  if (encoding === null || encoding === 'identity') return false;
  if (allowed && encoding.toLowerCase() === 'gzip') return true;
  throw new PinflowError(
    'unsupported_media_type',
    `Content-Encoding ${JSON.stringify(encoding)} is not taken here: ${allowed ? 'send gzip or none' : 'send the pin uncompressed; POST /pins takes gzip'}`,
  );
};

/**
 * The whole body. Its limit holds for what was inflated, while it is inflated.
 * @param take is told of bytes before they are kept, and may throw to refuse them
 * @throws PinflowError `too_large` (from Content-Length already, before a byte is read), `slow_body`, `overloaded`,
 *   `unsupported_media_type` (an encoding), `malformed_json` (broken off, or not gzip)
 */
export const readBody = async (
  request: Request,
  limits: BodyLimits,
  take: (bytes: number) => void,
): Promise<Uint8Array> => {
  const gzip = isGzip(request, limits.gzip);
  const declared = request.headers.get('content-length');
  const length = declared === null ? null : Number(declared);
  if (length !== null && length > limits.maxBytes) throw tooLarge(limits);
  if (!gzip && length !== null && length <= ONE_PIECE_BYTES) {
    take(length);
    return arrival(request.bytes(), limits.timeoutMs, limits, 'broke off');
  }
  if (request.body === null) return new Uint8Array(0);
  return readStream(gzip ? inflate(request.body) : request.body, { ...limits, gzip }, take);
};
