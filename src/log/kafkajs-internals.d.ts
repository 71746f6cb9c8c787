/** The one internal class of kafkajs 2.2.4 (pinned in package.json), which kafka-client.ts mends. */
declare module 'kafkajs/src/network/requestQueue' {
  class RequestQueue {
    readonly pending: readonly unknown[];
    scheduleCheckPendingRequests(): void;
  }
  export = RequestQueue;
}
