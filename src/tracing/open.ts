import type { Config } from '../config.ts';
import type { Tracing } from './tracing.ts';

type TracingConfig = Pick<
  Config,
  'OTEL_EXPORTER_OTLP_ENDPOINT' | 'OTEL_EXPORTER_OTLP_HEADERS' | 'OTEL_SERVICE_NAME' | 'OTEL_TRACES_SAMPLER_ARG'
>;

/**
 * Tracing by OTEL_EXPORTER_OTLP_ENDPOINT; undefined without it. OpenTelemetry is loaded only where it is asked for.
 * @param thread such as `main` or the worker's name
 */
export const openTracing = async (config: TracingConfig, thread: string): Promise<Tracing | undefined> => {
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT === undefined) return undefined;
  const { openOtlpTracing } = await import('./otlp.ts');
  return openOtlpTracing({
    endpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT,
    headers: config.OTEL_EXPORTER_OTLP_HEADERS ?? {},
    serviceName: config.OTEL_SERVICE_NAME,
    sampledShare: config.OTEL_TRACES_SAMPLER_ARG,
    thread,
  });
};
