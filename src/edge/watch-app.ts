import type { EdgeApp } from './app.ts';
import { createGuard } from './auth.ts';
import type { EdgeDeps } from './deps.ts';
import { errorResponse, responseOf } from './error-response.ts';
import { createGetMetrics, createGetReady, getHealth } from './health.ts';

type WatchDeps = Pick<EdgeDeps, 'readiness' | 'metricsText' | 'logger'> & {
  readonly limits: Pick<EdgeDeps['limits'], 'API_KEYS'>;
};

/** What a process answers on METRICS_PORT: how it is, and its metrics, by the same rules of access as the edge. */
export const createWatchApp = (deps: WatchDeps): Pick<EdgeApp, 'fetch'> => {
  const guard = createGuard(deps.limits.API_KEYS);
  const getReady = createGetReady(deps);
  const getMetrics = createGetMetrics(deps);
  const answer = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    if (pathname === '/healthz') return getHealth();
    if (pathname === '/readyz') return getReady();
    guard(request);
    if (pathname === '/metrics') return getMetrics();
    return errorResponse('not_found', 'this port has /metrics, /healthz and /readyz, and no edge');
  };
  return { fetch: (request) => answer(request).catch((error: unknown) => responseOf(error, deps.logger)) };
};
