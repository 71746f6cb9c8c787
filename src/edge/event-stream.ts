import type { EdgeBindings } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

export type EventReader = ReadableStreamDefaultController<Uint8Array>;

type Options = Pick<EdgeBindings, 'draining'> & {
  readonly request: Request;
  /** Chunks a reader may lag behind before its `desiredSize` says so. */
  readonly bufferChunks: number;
  /**
   * Tells the first, and takes the reader in. `end` ends the stream.
   * @returns called once when the reader has left, or was ended
   */
  readonly open: (reader: EventReader, end: () => void) => () => void;
};

/** A stream of server-sent events, until its reader leaves, `end` is called or the server drains. */
export const eventStream = ({ request, draining, bufferChunks, open }: Options): Response => {
  let leave = () => {};
  const body = new ReadableStream<Uint8Array>(
    {
      start: (reader) => {
        let isOpen = true;
        const end = () => {
          if (!isOpen) return;
          leave();
          reader.close();
        };
        const left = open(reader, end);
        leave = () => {
          if (!isOpen) return;
          isOpen = false;
          draining?.removeEventListener('abort', end);
          left();
        };
        draining?.addEventListener('abort', end);
        // A client that left before its first byte cancels nothing: the request tells.
        request.signal.addEventListener('abort', () => leave());
      },
      cancel: () => leave(),
    },
    { highWaterMark: bufferChunks },
  );
  return new Response(body, { headers: { ...JSON_HEADERS, 'Content-Type': 'text/event-stream' } });
};
