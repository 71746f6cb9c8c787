/** The internal classes of kafkajs 2.2.4 (pinned in package.json), which kafka-client.ts mends. */
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
