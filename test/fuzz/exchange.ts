import { connect } from 'node:net';

/** What is done on one connection, step by step. */
export type Step =
  | { readonly send: Uint8Array | string }
  | { readonly waitMs: number }
  /** Says that nothing more will be sent, and goes on reading. */
  | { readonly end: true }
  /** Cuts the connection off. */
  | { readonly reset: true };

export type Exchange = {
  /** Of the answers, in their order. */
  readonly statuses: readonly number[];
  /** `closed`: by the server, or by us when all answers were there. `hung`: neither an answer nor an end within the time. */
  readonly end: 'closed' | 'hung';
};

const HEAD_END = '\r\n\r\n';

/** Takes whole answers off the front of what has come. @returns what is left, and the status of each answer */
const takeAnswers = (received: string): { readonly rest: string; readonly statuses: readonly number[] } => {
  const statuses: number[] = [];
  let rest = received;
  for (;;) {
    const headEnd = rest.indexOf(HEAD_END);
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(rest)?.[1];
    if (headEnd < 0 || status === undefined) return { rest, statuses };
    const length = Number(/^content-length: (\d+)$/im.exec(rest.slice(0, headEnd))?.[1] ?? 0);
    const end = headEnd + HEAD_END.length + length;
    if (rest.length < end) return { rest, statuses };
    statuses.push(Number(status));
    rest = rest.slice(end);
  }
};

/**
 * Sends bytes over real TCP and reads what comes back.
 * @param answers ends when so many have come
 * @param timeoutMs without an end by then the exchange hangs
 */
export const exchange = (port: number, steps: readonly Step[], answers: number, timeoutMs: number): Promise<Exchange> =>
  new Promise((resolve) => {
    const statuses: number[] = [];
    let received = '';
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const finish = (end: Exchange['end']) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ statuses, end });
    };
    const timer = setTimeout(() => finish('hung'), timeoutMs);
    socket.setNoDelay(true);
    socket.on('data', (bytes) => {
      // Latin 1: a character a byte, as lengths count bytes.
      const taken = takeAnswers(received + bytes.toString('latin1'));
      received = taken.rest;
      statuses.push(...taken.statuses);
      if (statuses.length >= answers) finish('closed');
    });
    socket.on('end', () => finish('closed'));
    socket.on('close', () => finish('closed'));
    socket.on('error', () => finish('closed'));
    socket.on('connect', async () => {
      for (const step of steps) {
        if (socket.destroyed) return;
        if ('send' in step) await new Promise<void>((sent) => socket.write(step.send, () => sent()));
        else if ('waitMs' in step) await Bun.sleep(step.waitMs);
        else if ('end' in step) socket.end();
        else socket.resetAndDestroy();
      }
    });
  });
