import { type Context, Hono } from 'hono';
import { createGuard } from './auth.ts';
import { createPostPins } from './bulk.ts';
import { createDashboard } from './dashboard/dashboard.ts';
import type { EdgeBindings, EdgeDeps } from './deps.ts';
import { errorResponse, responseOf } from './error-response.ts';
import { createGetErrors } from './errors.ts';
import { createGetFeedback } from './feedback.ts';
import { createFeedbackWait } from './feedback-wait.ts';
import { createHandledWatch } from './handled-watch.ts';
import { createGetMetrics, createGetReady, getHealth } from './health.ts';
import { createIntake } from './intake.ts';
import { createGetPin } from './journey.ts';
import { createLetterRoutes } from './letters.ts';
import { createPostPin } from './pins.ts';
import { createGetRun } from './runs.ts';
import { createPostSql } from './sql.ts';
import { createStatusRoutes } from './status.ts';
import { type Tally, tallies } from './tally.ts';

type Env = { Bindings: EdgeBindings };
type Route = {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Answers without a key too: what a load balancer asks. */
  readonly open?: boolean;
  /** @param source name of the API key that asks, or null: see auth.ts */
  readonly handle: (c: Context<Env>, source: string | null) => Response | Promise<Response>;
};

export type EdgeApp = Hono<Env>;

const routesOf = (deps: EdgeDeps): readonly Route[] => {
  const intake = createIntake(deps);
  const handledWatch = createHandledWatch(deps);
  const feedbackWait = createFeedbackWait(handledWatch, deps.limits.FEEDBACK_WAIT_MS);
  const postPin = createPostPin({ ...deps, feedbackWait }, intake);
  const postPins = createPostPins(deps, intake);
  const getPin = createGetPin(deps);
  const { getStatus, getStream } = createStatusRoutes(deps);
  const { getLetters, postLetters } = createLetterRoutes(deps);
  const getErrors = createGetErrors(deps);
  const getFeedback = createGetFeedback({ ...deps, handledWatch });
  const getRun = createGetRun(deps);
  const postSql = createPostSql(deps);
  return [
    { method: 'POST', path: '/pin/', handle: (c, source) => postPin(c.req.raw, c.env ?? {}, source) },
    { method: 'POST', path: '/pin', handle: (c, source) => postPin(c.req.raw, c.env ?? {}, source) },
    { method: 'POST', path: '/pins', handle: (c, source) => postPins(c.req.raw, source) },
    { method: 'GET', path: '/pins/:unique_id', handle: (c) => getPin(c.req.param('unique_id') ?? '') },
    { method: 'GET', path: '/healthz', open: true, handle: getHealth },
    { method: 'GET', path: '/readyz', open: true, handle: createGetReady(deps) },
    { method: 'GET', path: '/metrics', handle: createGetMetrics(deps) },
    { method: 'GET', path: '/status', handle: getStatus },
    {
      method: 'GET',
      path: '/status/stream',
      // A HEAD is dispatched as a GET whose body nobody will ever read or cancel.
      handle: (c) => (c.req.raw.method === 'HEAD' ? getStatus() : getStream(c.req.raw, c.env ?? {})),
    },
    { method: 'GET', path: '/errors', handle: (c, source) => getErrors(new URL(c.req.url).searchParams, source) },
    { method: 'GET', path: '/feedback', handle: (c, source) => getFeedback(c.req.raw, c.env ?? {}, source) },
    { method: 'GET', path: '/runs/:id', handle: (c) => getRun(c.req.param('id') ?? '') },
    { method: 'GET', path: '/dlq', handle: (c) => getLetters(c.req.query('id')) },
    { method: 'POST', path: '/dlq', handle: (c) => postLetters(c.req.raw) },
    { method: 'POST', path: '/sql', handle: (c) => postSql(c.req.raw) },
    // The page itself holds nothing: it asks for the key and shows what that opens.
    ...createDashboard().map(({ path, handle }) => ({ method: 'GET' as const, path, open: true, handle })),
  ];
};

/** Whether a path is one of a route such as `/runs/:id`. */
const matches = (route: string, path: string): boolean =>
  route === path || (route.includes(':') && new RegExp(`^${route.replace(/:\w+/, '[^/]+')}$`).test(path));

/** Methods a path answers to, or null for a path nobody knows. */
const methodsOf = (routes: readonly Route[], path: string): readonly string[] | null => {
  const known = routes.filter((route) => matches(route.path, path));
  if (known.length === 0) return null;
  return [...new Set(known.flatMap((r) => (r.method === 'GET' ? ['GET', 'HEAD'] : [r.method]))), 'OPTIONS'];
};

/**
 * The edge as a Hono app; needs no port: `app.request('/pin/', { method: 'POST', … })`.
 * Every route is one handler without middleware, which Hono runs without composing: on POST /pin/ each layer counts.
 */
export const createApp = (deps: EdgeDeps): EdgeApp => {
  const { metrics, logger } = deps;
  const app = new Hono<Env>();
  const guard = createGuard(deps.limits.API_KEYS);
  const routes = routesOf(deps);

  const requestsOf = tallies(metrics.requests);
  /** By route and status. */
  const answered = new Map<string, Map<number, Tally>>();
  const counted = (route: string, response: Response): Response => {
    const { status } = response;
    const statuses = answered.getOrInsertComputed(route, () => new Map());
    statuses.getOrInsertComputed(status, () => requestsOf({ route, status: String(status) }))();
    return response;
  };

  for (const { method, path, open = false, handle } of routes) {
    const name = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
    app.on(method, path, async (c) => {
      try {
        const source = open ? null : guard(c.req.raw);
        return counted(name, await handle(c, source));
      } catch (error) {
        return counted(name, responseOf(error, logger));
      }
    });
  }

  app.notFound((c) => {
    const { method, path } = c.req;
    const allowed = methodsOf(routes, path);
    if (allowed === null)
      return counted('other', errorResponse('not_found', `there is nothing at ${path.slice(0, 200)}`));
    const headers = { Allow: allowed.join(', ') };
    return counted(
      'other',
      method === 'OPTIONS'
        ? new Response(null, { status: 204, headers })
        : errorResponse('method_not_allowed', `${method} is not for ${path}: use ${headers.Allow}`, { headers }),
    );
  });
  app.onError((error) => counted('other', responseOf(error, logger)));
  return app;
};
