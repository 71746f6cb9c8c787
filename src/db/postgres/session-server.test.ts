import { afterEach, describe, expect, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import { createLogger } from '../../logger.ts';
import { sleep } from '../../retry.ts';
import { frontendMessage } from './frontend-messages.ts';
import { type SessionServer, type SingleSession, serveSession } from './session-server.ts';

const logger = createLogger('silent', 'test');
const DEADLINE_MS = 5000;

/** An engine that writes down what it executes, and is in a transaction from `begin` to `commit` or `rollback`. */
const scriptedEngine = () => {
  const executed: string[] = [];
  let inTransaction = false;
  const session: SingleSession = {
    execute: async (messages, onData) => {
      const text = Buffer.from(messages).toString('latin1');
      if (text.includes('explode')) throw new Error('the engine is broken');
      executed.push(text);
      if (text.includes('begin')) inTransaction = true;
      if (text.includes('commit') || text.includes('rollback')) inTransaction = false;
      onData(Buffer.from(`done ${executed.length};`));
    },
    inTransaction: () => inTransaction,
  };
  /** What was executed, by letters: the words the test sent, without the framing. */
  const words = () => executed.map((text) => text.match(/[a-z]\w*(?: \w+)*(?=\0)/g)?.join(',') ?? '');
  return { session, executed, words };
};

describe('serveSession', () => {
  const opened: { close: () => Promise<void> | void }[] = [];
  afterEach(async () => {
    for (const { close } of opened.splice(0).reverse()) await close();
  });

  const serve = async (given: {
    session: SingleSession;
    idleInTransactionMs?: number;
    onFailure?: (e: unknown) => void;
  }) => {
    const server: SessionServer = await serveSession({ port: 0, logger, onFailure: () => {}, ...given });
    opened.push(server);
    return server;
  };

  const HELLO = Buffer.from([0, 0, 0, 8, 0, 3, 0, 0]);
  const query = (text: string) => frontendMessage('Q', `${text}\0`);
  const parse = (text: string) => frontendMessage('P', `\0${text}\0\0\0`);
  const sync = frontendMessage('S');

  const client = async (port: number) => {
    const socket: Socket = connect(port, '127.0.0.1');
    opened.push({ close: () => void socket.destroy() });
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    return { socket, send: (...messages: Buffer[]) => socket.write(Buffer.concat(messages)), received: () => received };
  };

  const until = async (what: string, holds: () => boolean) => {
    for (const end = Date.now() + DEADLINE_MS; !holds(); await sleep(2)) {
      if (Date.now() > end) throw new Error(`not in time: ${what}`);
    }
  };

  test('holds the session for a client in a transaction, and lets the others in when it has ended', async () => {
    const engine = scriptedEngine();
    const { port } = await serve(engine);
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, query('begin'));
    await until('a has begun', () => engine.words().includes('begin'));
    b.send(HELLO, query('of b'));
    a.send(query('of a'));
    await until('a goes on', () => engine.words().includes('of a'));
    expect(engine.words().join()).not.toContain('of b');
    a.send(query('commit'));
    await until('b is let in', () => engine.words().includes('of b'));
  });

  test('holds it between the parts of one query, until Sync', async () => {
    const engine = scriptedEngine();
    const { port } = await serve(engine);
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, parse('part one'));
    await until('a has parsed', () => engine.words().join().includes('part one'));
    b.send(HELLO, query('of b'));
    a.send(parse('part two'));
    await until('a goes on', () => engine.words().join().includes('part two'));
    expect(engine.words().join()).not.toContain('of b');
    a.send(sync);
    await until('b is let in', () => engine.words().includes('of b'));
  });

  test('a client that goes inside a transaction is rolled back before the next is let in', async () => {
    const engine = scriptedEngine();
    const { port } = await serve(engine);
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, query('begin'));
    await until('a has begun', () => engine.words().includes('begin'));
    b.send(HELLO, query('of b'));
    a.socket.destroy();
    await until('b is let in', () => engine.words().includes('of b'));
    expect(engine.words().filter((w) => w !== '')).toEqual(['begin', 'rollback,rollback,reset all', 'of b']);
  });

  test('a client that keeps a transaction open and says nothing is cut off, however many wait', async () => {
    const engine = scriptedEngine();
    const { port } = await serve({ ...engine, idleInTransactionMs: 50 });
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, query('begin'));
    await until('a has begun', () => engine.words().includes('begin'));
    b.send(HELLO);
    const nag = setInterval(() => b.send(query('of b')), 5);
    await until('b is let in', () => engine.words().some((w) => w.startsWith('of b')));
    clearInterval(nag);
    expect(a.received()).toContain('25P03');
  });

  test('executes what a leaving client had sent whole, and not the rest', async () => {
    const engine = scriptedEngine();
    const { port } = await serve(engine);
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, query('begin'));
    await until('a has begun', () => engine.words().includes('begin'));
    b.send(HELLO, query('last words'), parse('half'));
    b.socket.end();
    await until('b is gone', () => b.socket.destroyed);
    await sleep(20);
    a.send(query('commit'));
    await until('b was heard', () => engine.words().join().includes('last words'));
    expect(engine.words().join()).not.toContain('half');
  });

  test('a client that speaks another protocol is told so, and disturbs nobody', async () => {
    const engine = scriptedEngine();
    const { port } = await serve(engine);
    const [a, b] = [await client(port), await client(port)];
    a.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await until('a is told', () => a.received().includes('08P01'));
    b.send(HELLO, query('of b'));
    await until('b is served', () => engine.words().includes('of b'));
  });

  test('an engine that fails is reported once, and nobody is left waiting', async () => {
    const failures: unknown[] = [];
    const { port } = await serve({ ...scriptedEngine(), onFailure: (error) => failures.push(error) });
    const [a, b] = [await client(port), await client(port)];
    a.send(HELLO, query('explode'));
    b.send(HELLO, query('of b'));
    await until('both are disconnected', () => a.socket.destroyed && b.socket.destroyed);
    expect(failures.map(String)).toEqual(['Error: the engine is broken']);
  });

  test('a port that is taken is named', async () => {
    const { port } = await serve(scriptedEngine());
    const again = serveSession({ ...scriptedEngine(), port, logger, onFailure: () => {} });
    await expect(again).rejects.toMatchObject({ code: 'in_use', message: expect.stringContaining(`:${port}`) });
  });
});
