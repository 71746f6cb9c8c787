import type { Status } from '../../deps.ts';
import { sampleOf } from '../sample.ts';
import { call, keyGiven } from './api.ts';
import { HISTORY_MS } from './model.ts';
import { getState, setState } from './store.ts';

/** Milliseconds until the next try when the server is away. */
const RETRY_MS = 1000;
/** A stream that says nothing for so long is dead, whatever the socket says: the server speaks every second. */
const SILENCE_MS = 8000;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const onStatus = (status: Status & { readonly at: string }): void => {
  const sample = sampleOf(status, Date.parse(status.at));
  const from = sample.at - HISTORY_MS;
  const samples = [...getState().samples.filter(({ at }) => at >= from && at < sample.at), sample];
  setState({ connection: 'live', keyProblem: null, status, samples });
};

const onEvent = (name: string, data: string): void => {
  const value = JSON.parse(data);
  if (name === 'status') onStatus(value);
  // What this page saw itself is finer, and older than a server that has just started.
  else if (name === 'history') setState({ samples: getState().samples.length > 0 ? getState().samples : value });
  else if (name === 'errors') setState({ errors: value });
  else if (name === 'runs') setState({ runs: value });
};

const onBlock = (block: string): void => {
  const [, name] = /^event: (.*)$/m.exec(block) ?? [];
  const [, data] = /^data: (.*)$/m.exec(block) ?? [];
  if (name !== undefined && data !== undefined) onEvent(name, data);
};

/** Reads one stream to its end. Not EventSource, which cannot send a key. */
const readStream = async (stream: ReadableStream<Uint8Array>, silence: { readonly restart: () => void }) => {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    silence.restart();
    text += decoder.decode(value, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) onBlock(block);
  }
};

const watchSilence = () => {
  const dead = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(() => dead.abort(), SILENCE_MS);
  };
  restart();
  return { signal: dead.signal, restart, stop: () => clearTimeout(timer) };
};

const listen = async (): Promise<void> => {
  const silence = watchSilence();
  try {
    const response = await call('/status/stream', { signal: silence.signal });
    if (response.ok && response.body !== null) await readStream(response.body, silence);
  } catch {
    // Refused, cut off or silent: all are told apart by nobody and mended by trying again.
  } finally {
    silence.stop();
  }
};

/** Follows the server for as long as the page is open: across restarts, sleeping laptops and missing keys. */
export const follow = async (): Promise<never> => {
  for (;;) {
    await listen();
    if (getState().connection === 'locked') await keyGiven();
    else {
      setState({ connection: 'away' });
      await sleep(RETRY_MS);
    }
  }
};
