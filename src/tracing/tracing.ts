/**
 * The port of tracing: spans of what a pin goes through, tied together across threads and processes by the W3C trace context that
 * travels in a record's headers. Absent (undefined) when off: then nothing is made, sent or loaded.
 */
export type Attributes = Readonly<Record<string, string | number>>;

export type Span = {
  /** Trace context for what follows from this span; null when it is not sampled. */
  readonly traceparent: string | null;
  /** Ends it, as failed when there is an error. */
  readonly end: (outcome?: { readonly attributes?: Attributes; readonly error?: unknown }) => void;
};

export type SpanOptions = {
  readonly kind: 'server' | 'producer' | 'consumer' | 'internal';
  /** `traceparent` of what it follows from; one that is missing or not right begins a trace. */
  readonly parent?: string | null;
  readonly attributes?: Attributes;
};

export type Tracing = {
  readonly span: (name: string, options: SpanOptions) => Span;
  /** Sends what waits, for a moment at most. Idempotent. */
  readonly close: () => Promise<void>;
};

/** The header, of requests and of records. */
export const TRACEPARENT = 'traceparent';

/** Traces that get a span of one batch or object: a batch may hold the records of thousands of requests. */
const MAX_PARENTS = 100;

/** Adds the trace of a record, by its headers, to those that will be told of what is done with it. */
export const addParent = (parents: Set<string>, headers: Readonly<Record<string, string>>): void => {
  const parent = headers[TRACEPARENT];
  if (parent !== undefined && parents.size < MAX_PARENTS) parents.add(parent);
};

/** Runs `work` on a batch; each trace with a record in it gets a span of it. */
export const traced = async <T>(
  tracing: Tracing | undefined,
  name: string,
  parents: ReadonlySet<string>,
  attributes: Attributes,
  work: () => Promise<T>,
): Promise<T> => {
  if (tracing === undefined || parents.size === 0) return work();
  const spans = [...parents].map((parent) => tracing.span(name, { kind: 'consumer', parent, attributes }));
  try {
    const result = await work();
    for (const span of spans) span.end();
    return result;
  } catch (error) {
    for (const span of spans) span.end({ error });
    throw error;
  }
};
