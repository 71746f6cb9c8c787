import { PinflowError } from '../../errors.ts';

/**
 * The client's half of PostgreSQL's wire protocol 3.0, as far as a server that passes messages on must know it
 * (PostgreSQL manual, "Message Formats"): where a message ends, and where it names a prepared statement.
 */
export type FrontendMessage =
  | { readonly kind: 'startup'; readonly bytes: Buffer }
  /** Wants TLS or GSS; the answer is one byte, `N`. */
  | { readonly kind: 'encryption' }
  | { readonly kind: 'cancel' }
  /** `type` is the first byte as a letter, such as `Q` for a simple query or `S` for Sync. */
  | { readonly kind: 'message'; readonly type: string; readonly bytes: Buffer };

/** Largest message taken: above PGlite's memory there is nothing to gain, and a length read from garbage ends here. */
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;

const PROTOCOL_3 = 196_608;
const CANCEL_REQUEST = 80_877_102;
const ENCRYPTION_REQUESTS = [80_877_103, 80_877_104];

/** A COPY names its table and columns only: this much of a query is looked at for one. */
const COPY_SCAN_BYTES = 64 * 1024;

const STARTUP_HEADER_BYTES = 8;
const MESSAGE_HEADER_BYTES = 5;

const firstMessage = (bytes: Buffer): FrontendMessage => {
  const code = bytes.readInt32BE(4);
  if (ENCRYPTION_REQUESTS.includes(code)) return { kind: 'encryption' };
  if (code === CANCEL_REQUEST) return { kind: 'cancel' };
  if (code >> 16 === PROTOCOL_3 >> 16) return { kind: 'startup', bytes };
  throw new PinflowError('query', `a client asked for protocol ${code >> 16}.${code & 0xffff}; this server has 3.0.`);
};

/** Collects chunks and cuts them into messages; a message of many chunks is joined once, not at every chunk. */
export const createMessageReader = () => {
  let chunks: Buffer[] = [];
  let size = 0;
  /** Bytes that must be there before it is worth looking again. */
  let wanted = STARTUP_HEADER_BYTES;
  let started = false;

  const front = (bytes: number): Buffer => {
    const [chunk = Buffer.alloc(0)] = chunks;
    if (chunk.length >= bytes) return chunk;
    const joined = Buffer.concat(chunks);
    chunks = [joined];
    return joined;
  };

  const nextLength = (): number => {
    const header = started ? MESSAGE_HEADER_BYTES : STARTUP_HEADER_BYTES;
    const length = started ? 1 + front(header).readInt32BE(1) : front(header).readInt32BE(0);
    if (length >= header && length <= MAX_MESSAGE_BYTES) return length;
    throw new PinflowError('query', `a client sent a message of ${length} bytes, which is not PostgreSQL's protocol.`);
  };

  const take = (length: number): Buffer => {
    const bytes = front(length);
    const rest = bytes.subarray(length);
    if (rest.length > 0) chunks[0] = rest;
    else chunks.shift();
    size -= length;
    return bytes.subarray(0, length);
  };

  const cut = (bytes: Buffer): FrontendMessage => {
    if (started) return { kind: 'message', type: String.fromCharCode(bytes[0] ?? 0), bytes };
    const message = firstMessage(bytes);
    started = message.kind === 'startup';
    return message;
  };

  return {
    /** @returns the messages that are complete now. @throws PinflowError `query` on bytes that are no protocol message */
    push: (chunk: Buffer): readonly FrontendMessage[] => {
      chunks.push(chunk);
      size += chunk.length;
      const messages: FrontendMessage[] = [];
      while (size >= wanted) {
        wanted = nextLength();
        if (size < wanted) break;
        messages.push(cut(take(wanted)));
        wanted = started ? MESSAGE_HEADER_BYTES : STARTUP_HEADER_BYTES;
      }
      return messages;
    },
  };
};

/** One message of a type without a body, or with one: type, length, body. */
export const frontendMessage = (type: string, body: Buffer | string = ''): Buffer => {
  const content = Buffer.from(body);
  const message = Buffer.alloc(MESSAGE_HEADER_BYTES + content.length);
  message.write(type, 0, 'latin1');
  message.writeInt32BE(4 + content.length, 1);
  content.copy(message, MESSAGE_HEADER_BYTES);
  return message;
};

const NUL = 0;

/** Where the name of the prepared statement stands in the messages that have one: Parse, Bind, Describe, Close. */
const statementNameAt = (type: string, bytes: Buffer): number | null => {
  if (type === 'P') return MESSAGE_HEADER_BYTES;
  if (type === 'B') return bytes.indexOf(NUL, MESSAGE_HEADER_BYTES) + 1;
  const ofStatement = (type === 'D' || type === 'C') && bytes[MESSAGE_HEADER_BYTES] === 'S'.charCodeAt(0);
  return ofStatement ? MESSAGE_HEADER_BYTES + 1 : null;
};

/**
 * Puts `prefix` before the name of a named prepared statement, so that clients that share a session and choose the same
 * name do not meet. @returns the message to pass on, and the full name, or null where there is none
 */
export const prefixStatement = (
  type: string,
  bytes: Buffer,
  prefix: string,
): { bytes: Buffer; name: string | null } => {
  const at = statementNameAt(type, bytes);
  if (at === null || bytes[at] === NUL) return { bytes, name: null };
  const named = frontendMessage(
    type,
    Buffer.concat([bytes.subarray(MESSAGE_HEADER_BYTES, at), Buffer.from(prefix), bytes.subarray(at)]),
  );
  return { bytes: named, name: prefix + bytes.toString('utf8', at, bytes.indexOf(NUL, at)) };
};

const COPY_IN = /(?:^|;)\s*copy\s[^;]*\sfrom\s+stdin\b/i;

/** The manual's code for what a server does not have; a block of its own, so that it fails the same inside a transaction. */
const REFUSAL = `do $$ begin raise feature_not_supported using message =
  'COPY FROM STDIN is not available on the embedded Postgres: use insert, or set DATABASE_URL to a real one'; end $$`;

/**
 * A query that copies from the client would wait inside the engine for bytes that only its own thread could bring, for
 * ever. It becomes one that fails with SQLSTATE 0A000.
 */
export const refuseCopyIn = (type: string, bytes: Buffer): Buffer => {
  const queryAt = type === 'Q' ? MESSAGE_HEADER_BYTES : type === 'P' ? bytes.indexOf(NUL, MESSAGE_HEADER_BYTES) + 1 : 0;
  if (queryAt === 0) return bytes;
  const end = bytes.indexOf(NUL, queryAt);
  if (!COPY_IN.test(bytes.toString('utf8', queryAt, Math.min(end, queryAt + COPY_SCAN_BYTES)))) return bytes;
  const [before, after] = [bytes.subarray(MESSAGE_HEADER_BYTES, queryAt), bytes.subarray(end)];
  return frontendMessage(type, Buffer.concat([before, Buffer.from(REFUSAL), after]));
};
