/** The internals of kafkajs 2.2.4 (pinned in package.json) that kafka-client.ts mends and kafka-fetch.ts reads faster. */
declare module 'kafkajs/src/network/requestQueue' {
  class RequestQueue {
    readonly pending: readonly unknown[];
    scheduleCheckPendingRequests(): void;
  }
  export = RequestQueue;
}

declare module 'kafkajs/src/protocol/encoder' {
  class Encoder {
    static nextPowerOfTwo(value: number): number;
    buf: Buffer;
    readonly offset: number;
    ensureAvailable(length: number): void;
  }
  export = Encoder;
}

declare module 'kafkajs/src/protocol/requests/fetch/v11/response' {
  const response: { decode: (answer: Buffer) => Promise<unknown> };
  export = response;
}
