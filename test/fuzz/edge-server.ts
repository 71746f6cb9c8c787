import { fileURLToPath } from 'node:url';

export type EdgeServer = {
  readonly port: number;
  /** Resident memory now, bytes; null where the system does not tell. */
  readonly rssBytes: () => Promise<number | null>;
  readonly isAlive: () => boolean;
  readonly close: () => Promise<void>;
};

const CHILD = fileURLToPath(new URL('./edge-child.ts', import.meta.url));

const firstLine = async (stream: ReadableStream<Uint8Array>): Promise<string> => {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes('\n')) break;
  }
  return text.split('\n')[0] ?? '';
};

/** Starts the edge in a process of its own. */
export const startEdgeServer = async (): Promise<EdgeServer> => {
  const child = Bun.spawn([process.execPath, CHILD], { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
  const url = await firstLine(child.stdout);
  if (url === '') throw new Error('the edge did not start');
  const status = Bun.file(`/proc/${child.pid}/status`);
  return {
    port: Number(new URL(url).port),
    rssBytes: async () => {
      const found = /^VmRSS:\s+(\d+) kB$/m.exec(await status.text().catch(() => ''));
      return found === null ? null : Number(found[1]) * 1024;
    },
    isAlive: () => child.exitCode === null,
    close: async () => {
      await child.stdin.end();
      await child.exited;
    },
  };
};
