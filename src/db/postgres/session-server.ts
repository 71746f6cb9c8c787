import { createServer, type Socket } from 'node:net';
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

type Client = {
  readonly socket: Socket;
  /** Unique among clients, short: PostgreSQL cuts names at 63 bytes. */
  readonly prefix: string;
  readonly statements: Set<string>;
  pending: Buffer[];
  pendingBytes: number;
  lastType: string;
  gone: boolean;
};

const fatal = (code: string, message: string): Buffer => {
  const fields = [`SFATAL`, `VFATAL`, `C${code}`, `M${message}`].map((field) => `${field}\0`).join('');
  return frontendMessage('E', `${fields}\0`);
};

/**
 * Who has the session. A client has it from its first message until the engine is ready for the next query outside a
 * transaction; so neither transactions nor the parts of one query (Parse, Bind, Execute) of two clients ever mix.
 */
const createTurns = (session: SingleSession, logger: Logger, onFailure: (error: unknown) => void) => {
  const waiting = new Set<Client>();
  let holder: Client | null = null;
  let running = false;
  let idleTimer: ReturnType<typeof setTimeout> | undefined;

  const executeFor = async (client: Client) => {
    const batch = client.pending.length === 1 ? client.pending[0] : Buffer.concat(client.pending);
    client.pending = [];
    client.pendingBytes = 0;
    client.socket.resume();
    let out: Buffer[] = [];
    let outBytes = 0;
    const flush = () => {
      if (!client.gone && outBytes > 0) client.socket.write(Buffer.concat(out));
      out = [];
      outBytes = 0;
    };
    await session.execute(batch ?? Buffer.alloc(0), (data) => {
      out.push(Buffer.from(data));
      outBytes += data.length;
      if (outBytes >= WRITE_BYTES) flush();
    });
    flush();
  };

  const cutOff = (client: Client) => {
    logger.warn('a client of the embedded Postgres left a transaction open and idle: it is disconnected');
    client.socket.end(fatal('25P03', 'terminating connection due to idle-in-transaction timeout'));
    client.socket.destroySoon();
  };

  const run = async () => {
    running = true;
    clearTimeout(idleTimer);
    for (;;) {
      const [next] = holder === null ? waiting : [holder];
      if (next === undefined || next.pending.length === 0) break;
      waiting.delete(next);
      holder = next;
      await executeFor(next);
      if (ENDS_TURN.has(next.lastType) && !session.inTransaction()) holder = null;
      // The engine computes in this thread: let sockets be read between two turns.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    running = false;
    const idle = holder;
    if (idle !== null) idleTimer = setTimeout(cutOff, IDLE_IN_TRANSACTION_MS, idle);
  };

  return {
    enqueue: (client: Client) => {
      if (client !== holder) waiting.add(client);
      if (!running) run().catch(onFailure);
    },
    holds: (client: Client) => client === holder,
    stop: () => clearTimeout(idleTimer),
  };
};

type Turns = ReturnType<typeof createTurns>;

const enqueueBytes = (client: Client, turns: Turns, type: string, bytes: Buffer) => {
  client.pending.push(bytes);
  client.pendingBytes += bytes.length;
  client.lastType = type;
  if (client.pendingBytes > MAX_PENDING_BYTES && !turns.holds(client)) client.socket.pause();
};

const receive = (client: Client, turns: Turns, message: FrontendMessage) => {
  if (message.kind === 'encryption') {
    client.socket.write('N');
  } else if (message.kind === 'startup') {
    enqueueBytes(client, turns, 'startup', message.bytes);
  } else if (message.kind === 'cancel' || message.type === 'X') {
    // One thread computes, so nothing could be cancelled while it does.
    client.socket.end();
  } else {
    const { bytes, name } = prefixStatement(message.type, message.bytes, client.prefix);
    if (name !== null && message.type === 'P') client.statements.add(name);
    enqueueBytes(client, turns, message.type, refuseCopyIn(message.type, bytes));
  }
};

/**
 * What a real server does when a client goes: its transaction is rolled back, its prepared statements are forgotten. What
 * it SET would stay, as all share the session: somebody's psql must not leave a search_path to the workers.
 */
const forget = (client: Client, turns: Turns) => {
  if (client.gone) return;
  client.gone = true;
  const rollback = turns.holds(client) ? [frontendMessage('S'), frontendMessage('Q', 'rollback\0')] : [];
  const closes = [...client.statements].map((name) => frontendMessage('C', `S${name}\0`));
  client.pending = [...rollback, ...closes, frontendMessage('S'), frontendMessage('Q', 'reset all\0')];
  client.lastType = 'Q';
  turns.enqueue(client);
};

/**
 * Serves one engine session to many clients, on loopback and without a password: those who may use this machine's
 * loopback may use it. What is a session's own on a real server is shared by all here: settings by SET, temporary
 * tables, advisory locks of the session, LISTEN.
 *
 * @param port 0 takes a free one
 * @param onFailure told once the engine has failed: nothing will be answered any more
 */
export const serveSession = async ({
  session,
  port,
  logger,
  onFailure,
}: {
  readonly session: SingleSession;
  readonly port: number;
  readonly logger: Logger;
  readonly onFailure: (error: unknown) => void;
}): Promise<SessionServer> => {
  const turns = createTurns(session, logger, onFailure);
  const clients = new Set<Client>();
  let count = 0;

  const server = createServer((socket) => {
    const prefix = `${(count++).toString(36)}:`;
    const client: Client = {
      socket,
      prefix,
      statements: new Set(),
      pending: [],
      pendingBytes: 0,
      lastType: '',
      gone: false,
    };
    const reader = createMessageReader();
    clients.add(client);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) receive(client, turns, message);
        if (client.pending.length > 0) turns.enqueue(client);
      } catch (error) {
        socket.end(fatal('08P01', messageOf(error)));
      }
    });
    socket.on('error', (error) => logger.debug({ error: error.message }, 'a client of the embedded Postgres is gone'));
    socket.on('close', () => {
      clients.delete(client);
      forget(client, turns);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;

  const bound = await new Promise<number>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new PinflowError(
          'in_use',
          `the embedded Postgres cannot listen on 127.0.0.1:${port}: ${cause.message}. Set POSTGRES_PORT to a free port, or 0.`,
          { cause },
        ),
      ),
    );
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });

  return {
    port: bound,
    close: async () => {
      turns.stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const { socket } of clients) socket.destroy();
      await closed;
    },
  };
};
