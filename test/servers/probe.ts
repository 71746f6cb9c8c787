import { connect } from 'node:net';

/** Longest a server may take to answer a probe, milliseconds. A loopback answer takes one; a starting JVM may stall. */
const PROBE_TIMEOUT_MS = 2000;

/** `host:port` → both, with a port for when there is none. */
export const hostAndPort = (text: string, port: number): { readonly host: string; readonly port: number } => {
  const [host = '127.0.0.1', given] = text.split(':');
  return { host, port: given === undefined ? port : Number(given) };
};

/** Sends bytes, answers the first bytes that come back; null when nobody listens, or nothing comes in time. */
export const exchange = (at: { host: string; port: number }, request: Uint8Array): Promise<Buffer | null> =>
  new Promise((resolve) => {
    const socket = connect(at);
    const finish = (answer: Buffer | null) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => finish(null));
    socket.on('error', () => finish(null));
    socket.on('close', () => finish(null));
    socket.on('data', (bytes: Buffer) => finish(bytes));
    socket.on('connect', () => socket.write(request));
  });

/** The body of a GET, or null when it fails. */
export const httpGet = async (url: string): Promise<string | null> => {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    return await response.text();
  } catch {
    return null;
  }
};
