import { type Context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { parseTraceParent } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { messageOf } from '../errors.ts';
import { atMost } from '../retry.ts';
import type { SpanOptions, Tracing } from './tracing.ts';

export type OtlpOptions = {
  /** Of a collector, such as `http://127.0.0.1:4318`; traces go to `/v1/traces` below it. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  /** Of the traces that begin here, 0 to 1; those that come with a request are kept or not as it says. */
  readonly sampledShare: number;
  readonly thread: string;
};

/** Spans that wait to be sent; beyond it they are dropped: a collector that is away must not take memory, nor time of a pin. */
const MAX_WAITING_SPANS = 4096;
const SEND_EVERY_MS = 1000;
/** Longest one send may take, and longest a shutdown waits for the last one, milliseconds. */
const SEND_TIMEOUT_MS = 2000;

const KINDS: Readonly<Record<SpanOptions['kind'], SpanKind>> = {
  server: SpanKind.SERVER,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
  internal: SpanKind.INTERNAL,
};

const contextOf = (traceparent: string | null | undefined): Context => {
  const parent = traceparent ? parseTraceParent(traceparent) : null;
  return parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true });
};

const SAMPLED = 1;
const hex = (flags: number) => (flags & 0xff).toString(16).padStart(2, '0');

/** Sends spans by OTLP over HTTP, as JSON. What cannot be sent is dropped. */
export const openOtlpTracing = ({ endpoint, headers, serviceName, sampledShare, thread }: OtlpOptions): Tracing => {
  const url = `${endpoint.replace(/\/$/, '')}/v1/traces`;
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': serviceName,
      'thread.name': thread,
      'process.pid': process.pid,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(sampledShare) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url, headers, timeoutMillis: SEND_TIMEOUT_MS }),
        maxQueueSize: MAX_WAITING_SPANS,
        scheduledDelayMillis: SEND_EVERY_MS,
        exportTimeoutMillis: SEND_TIMEOUT_MS,
      }),
    ],
  });
  const tracer = provider.getTracer('pinflow');
  let closing: Promise<void> | null = null;

  const close = () =>
    atMost(
      provider.shutdown().catch(() => {}),
      SEND_TIMEOUT_MS,
    );

  return {
    span: (name, { kind, parent, attributes }) => {
      const span = tracer.startSpan(name, { kind: KINDS[kind], attributes }, contextOf(parent));
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceparent: traceFlags & SAMPLED ? `00-${traceId}-${spanId}-${hex(traceFlags)}` : null,
        end: ({ attributes: more, error } = {}) => {
          if (more !== undefined) span.setAttributes(more);
          if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
          span.end();
        },
      };
    },
    close: () => {
      closing ??= close();
      return closing;
    },
  };
};
