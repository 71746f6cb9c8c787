import { createServer, type Server, type Socket } from 'node:net';
import { messageOf, PinflowError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import {
  createMessageReader,
  type FrontendMessage,
  frontendMessage,
  prefixStatement,
  refuseCopyIn,
} from './frontend-messages.ts';

/** An engine with a single session: it executes protocol messages one batch at a time. */
export type SingleSession = {
  /** Executes, handing out what the engine answers. `data` is only valid during the call. */
  readonly execute: (messages: Uint8Array, onData: (data: Uint8Array) => void) => Promise<void>;
  readonly inTransaction: () => boolean;
};

export type SessionServer = { readonly port: number; readonly close: () => Promise<void> };

/** Connections at once: a few pools of four, and somebody's psql. Each costs a socket only. */
const MAX_CONNECTIONS = 64;
/** A client that keeps the session in an open transaction and says nothing is cut off after this, as all others wait. */
const IDLE_IN_TRANSACTION_MS = 30_000;
/** A waiting client that pipelines more than this is not read further until it had its turn. */
const MAX_PENDING_BYTES = 64 * 1024 * 1024;
/** Answers are written in pieces of about this size: larger than the engine's 8 KiB, so that a row costs no write. */
const WRITE_BYTES = 64 * 1024;

/** After these the engine says ReadyForQuery: outside a transaction the session is free again. */
const ENDS_TURN = new Set(['startup', 'Q', 'S', 'F']);

type Pending = { readonly type: string; readonly bytes: Buffer };

type Client = {
  readonly socket: Socket;
  /** Unique among clients, short: PostgreSQL cuts names at 63 bytes. */
  readonly prefix: string;
  readonly statements: Set<string>;
  /** Received and not yet executed. */
  pending: Pending[];
  pendingBytes: number;
  gone: boolean;
};

const fatal = (code: string, message: string): Buffer => {
  const fields = ['SFATAL', 'VFATAL', `C${code}`, `M${message}`].map((field) => `${field}\0`).join('');
  return frontendMessage('E', `${fields}\0`);
};

const isStartup = (message: Pending | undefined) => message?.type === 'startup';

/** What may be executed in one call: all that is there, but a start-up by itself. */
const takeBatch = (client: Client): readonly Pending[] => {
  const batch = client.pending.splice(0, isStartup(client.pending[0]) ? 1 : client.pending.length);
  client.pendingBytes = 0;
  client.socket.resume();
  return batch;
};

/** Executes a batch; the answers go to the client in pieces, as the engine gives them in crumbs. */
const executeBatch = async (session: SingleSession, client: Client, batch: readonly Pending[]) => {
  let out: Buffer[] = [];
  let outBytes = 0;
  const flush = () => {
    if (!client.gone && outBytes > 0) client.socket.write(Buffer.concat(out));
    out = [];
    outBytes = 0;
  };
  const [first] = batch;
  const bytes = batch.length === 1 && first !== undefined ? first.bytes : Buffer.concat(batch.map((m) => m.bytes));
  await session.execute(bytes, (data) => {
    out.push(Buffer.from(data));
    outBytes += data.length;
    if (outBytes >= WRITE_BYTES) flush();
  });
  flush();
};

/**
 * Who has the session. A client has it from its first message until the engine is ready for the next query outside a
 * transaction; so neither transactions nor the parts of one query (Parse, Bind, Execute) of two clients ever mix.
 */
const createTurns = (session: SingleSession, idleInTransactionMs: number, onIdle: (client: Client) => void) => {
  const waiting = new Set<Client>();
  let holder: Client | null = null;
  let running: Promise<void> | null = null;
  let stopped = false;
  let idleTimer: ReturnType<typeof setTimeout> | undefined;

  const takeTurn = async (client: Client) => {
    clearTimeout(idleTimer);
    waiting.delete(client);
    holder = client;
    const batch = takeBatch(client);
    try {
      await executeBatch(session, client, batch);
    } catch (error) {
      if (!isStartup(batch[0])) throw error;
      client.socket.end(fatal('08P01', messageOf(error)));
    }
    if (!ENDS_TURN.has(batch.at(-1)?.type ?? '') || session.inTransaction()) {
      idleTimer = setTimeout(onIdle, idleInTransactionMs, client);
      return;
    }
    holder = null;
    if (client.pending.length > 0) waiting.add(client);
  };

  const run = async () => {
    while (!stopped) {
      const [next] = holder === null ? waiting : [holder];
      if (next === undefined || next.pending.length === 0) break;
      await takeTurn(next);
      // The engine computes in this thread: let sockets be read between two turns.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };

  return {
    /** @param onFailure told when the engine failed; nothing is executed any more */
    enqueue: (client: Client, onFailure: (error: unknown) => void) => {
      if (stopped) return;
      if (client !== holder) waiting.add(client);
      running ??= run()
        .catch((error: unknown) => {
          stopped = true;
          onFailure(error);
        })
        .finally(() => {
          running = null;
        });
    },
    holds: (client: Client) => client === holder,
    /** Resolves when the engine is at rest. */
    stop: async () => {
      stopped = true;
      await running;
      clearTimeout(idleTimer);
    },
  };
};

type Turns = ReturnType<typeof createTurns>;

const addPending = (client: Client, turns: Turns, message: Pending) => {
  client.pending.push(message);
  client.pendingBytes += message.bytes.length;
  if (client.pendingBytes > MAX_PENDING_BYTES && !turns.holds(client)) client.socket.pause();
};

const receive = (client: Client, turns: Turns, message: FrontendMessage) => {
  if (message.kind === 'encryption') {
    client.socket.write('N');
  } else if (message.kind === 'startup') {
    addPending(client, turns, { type: 'startup', bytes: message.bytes });
  } else if (message.kind === 'cancel' || message.type === 'X') {
    // One thread computes, so nothing could be cancelled while it does.
    client.socket.end();
  } else {
    const { type } = message;
    const { bytes, name } = prefixStatement(type, message.bytes, client.prefix);
    if (name !== null && type === 'P') client.statements.add(name);
    addPending(client, turns, { type, bytes: refuseCopyIn(type, bytes) });
  }
};

/**
 * What a real server does when a client goes: executes what it had sent whole, rolls back what is open, forgets its
 * prepared statements. What it SET would stay, as all share the session: a psql must not leave a search_path to others.
 */
const leave = (client: Client, turns: Turns) => {
  client.gone = true;
  const message = (type: string, body = ''): Pending => ({ type, bytes: frontendMessage(type, body) });
  const whole = client.pending.findLastIndex(({ type }) => ENDS_TURN.has(type)) + 1;
  // Twice: after an error the engine skips all before the Sync, and without one the Sync would commit.
  const rollback = [message('Q', 'rollback\0'), message('S'), message('Q', 'rollback\0')];
  client.pending = [
    ...client.pending.slice(0, whole),
    ...(turns.holds(client) || whole > 0 ? rollback : []),
    ...[...client.statements].map((name) => message('C', `S${name}\0`)),
    message('S'),
    message('Q', 'reset all\0'),
  ];
};

/**
 * Serves one engine session to many clients, on loopback and without a password: those who may use this machine's
 * loopback may use it. What is a session's own on a real server is shared by all here: settings by SET, temporary
 * tables, advisory locks of the session, LISTEN.
 *
 * @param port 0 takes a free one
 * @param onFailure told once the engine has failed: nothing will be answered any more
 * @param idleInTransactionMs (Default: 30,000)
 */
export const serveSession = async ({
  session,
  port,
  logger,
  onFailure,
  idleInTransactionMs = IDLE_IN_TRANSACTION_MS,
}: {
  readonly session: SingleSession;
  readonly port: number;
  readonly logger: Logger;
  readonly onFailure: (error: unknown) => void;
  readonly idleInTransactionMs?: number;
}): Promise<SessionServer> => {
  const turns = createTurns(session, idleInTransactionMs, ({ socket }) => {
    logger.warn('a client of the embedded Postgres left a transaction open and idle: it is disconnected');
    socket.end(fatal('25P03', 'terminating connection due to idle-in-transaction timeout'));
    socket.destroySoon();
  });
  const clients = new Set<Client>();
  const nextPrefix = createPrefixes();
  const hangUp = () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const { socket } of clients) socket.destroy();
    return closed;
  };
  const fail = (error: unknown) => {
    void hangUp();
    onFailure(error);
  };

  const welcome = (socket: Socket) => {
    const client: Client = {
      socket,
      prefix: nextPrefix(),
      statements: new Set(),
      pending: [],
      pendingBytes: 0,
      gone: false,
    };
    const reader = createMessageReader();
    clients.add(client);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) receive(client, turns, message);
        if (client.pending.length > 0) turns.enqueue(client, fail);
      } catch (error) {
        socket.end(fatal('08P01', messageOf(error)));
      }
    });
    socket.on('error', (error) => logger.debug({ error: error.message }, 'a client of the embedded Postgres is gone'));
    socket.on('close', () => {
      clients.delete(client);
      leave(client, turns);
      turns.enqueue(client, fail);
    });
  };

  const server = createServer(welcome);
  server.maxConnections = MAX_CONNECTIONS;
  return {
    port: await listen(server, port),
    close: async () => {
      await turns.stop();
      await hangUp();
    },
  };
};

const createPrefixes = () => {
  let count = 0;
  return () => `${(count++).toString(36)}:`;
};

const listen = (server: Server, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `the embedded Postgres cannot listen on 127.0.0.1:${port}: ${cause.message}. Set POSTGRES_PORT to a free port, or 0.`;
      reject(new PinflowError('in_use', message, { cause }));
    });
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
