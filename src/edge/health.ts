import type { EdgeDeps } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** `GET /healthz`: the process lives and its event loop turns. Says nothing of engines: restarting would not mend those. */
export const getHealth = (): Response => new Response('{"status":"ok"}', { headers: JSON_HEADERS });

/** `GET /readyz`: 200 when all parts are ready, else 503 and which are not, and why. Pins are taken long before. */
export const createGetReady = (deps: Pick<EdgeDeps, 'readiness'>) => async (): Promise<Response> => {
  const parts = await deps.readiness();
  const ready = parts.every((part) => part.ready);
  return new Response(JSON.stringify({ ready, parts }), { status: ready ? 200 : 503, headers: JSON_HEADERS });
};

/** `GET /metrics`: Prometheus text of all threads. */
export const createGetMetrics = (deps: Pick<EdgeDeps, 'metricsText'>) => async (): Promise<Response> =>
  new Response(await deps.metricsText(), { headers: { 'Content-Type': PROMETHEUS_TYPE, 'Cache-Control': 'no-store' } });
