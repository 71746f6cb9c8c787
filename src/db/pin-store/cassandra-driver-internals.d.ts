/** The internals of cassandra-driver 4.10.0 (pinned in package.json) that cql-bound-values.ts gives encoded rows to, and its test compares with. */
declare module 'cassandra-driver/lib/writers' {
  class FrameWriter {
    /** Of the frame's body. */
    add(bytes: Buffer): void;
    /** @param bytes of a value; null, or the driver's `unset` */
    writeBytes(bytes: object | null): void;
  }

  export { FrameWriter };
}

declare module 'cassandra-driver/lib/execution-options' {
  class ExecutionOptions {
    static empty(): ExecutionOptions;
    getConsistency(): number;
  }

  export { ExecutionOptions };
}

declare module 'cassandra-driver/lib/encoder' {
  class Encoder {
    constructor(protocolVersion: number, options: { readonly encoding: { readonly useBigIntAsLong: boolean } });
  }
  export = Encoder;
}

declare module 'cassandra-driver/lib/requests' {
  import type Encoder from 'cassandra-driver/lib/encoder';
  import type { ExecutionOptions } from 'cassandra-driver/lib/execution-options';

  /** What the server answers about a statement that is prepared. */
  type Meta = { readonly columns: readonly { readonly type: { readonly code: number; readonly info?: unknown } }[] };
  type Item = { readonly queryId: Buffer; readonly params: readonly unknown[]; readonly meta: Meta };

  class BatchRequest {
    constructor(queries: readonly Item[], options: ExecutionOptions);
    /** @returns the frame */
    write(encoder: Encoder, streamId: number): Buffer;
  }
  class ExecuteRequest {
    constructor(query: string, queryId: Buffer, params: readonly unknown[], options: ExecutionOptions, meta: Meta);
    write(encoder: Encoder, streamId: number): Buffer;
  }

  export { BatchRequest, ExecuteRequest };
}
