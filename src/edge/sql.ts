import { isPinflowError, PinflowError } from '../errors.ts';
import { readCommand } from './command.ts';
import type { EdgeDeps } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

/** Statements that may run at once: each takes a connection to Postgres, or a process of its own. */
const MAX_RUNNING = 2;
/** Statements a minute, of all dashboards together: more than people type, less than a script would send. */
const MAX_A_MINUTE = 60;
const MINUTE_MS = 60_000;
/** Characters of one value in the answer; the dashboard shows tables, not documents. */
const MAX_CELL = 2000;

/** Lets a call in, or says why not. */
const createGate = (now: () => number) => {
  let starts: readonly number[] = [];
  let running = 0;
  const enter = () => {
    starts = starts.filter((at) => at > now() - MINUTE_MS);
    if (running >= MAX_RUNNING)
      throw new PinflowError('rate_limited', `${MAX_RUNNING} statements run already: wait until one has ended`);
    if (starts.length >= MAX_A_MINUTE)
      throw new PinflowError('rate_limited', `${MAX_A_MINUTE} statements a minute are answered: wait a moment`);
    starts = [...starts, now()];
    running++;
  };
  return async <T>(work: () => Promise<T>): Promise<T> => {
    enter();
    try {
      return await work();
    } finally {
      running--;
    }
  };
};

const cut = (value: unknown): unknown => {
  const text = typeof value === 'object' && value !== null ? JSON.stringify(value) : value;
  return typeof text === 'string' && text.length > MAX_CELL ? `${text.slice(0, MAX_CELL)}…` : text;
};

/** `POST /sql` `{"view":"speed"|"batch","sql":"select …"}` → `{columns, rows, truncated, ms}`. */
export const createPostSql = (deps: Pick<EdgeDeps, 'query' | 'limits' | 'clock'>) => {
  const gate = createGate(deps.clock.now);
  return async (request: Request): Promise<Response> => {
    const { view, sql } = await readCommand(deps, request);
    if (view !== 'speed' && view !== 'batch')
      throw new PinflowError('bad_query', '"view" should be "speed" or "batch"');
    if (typeof sql !== 'string') throw new PinflowError('bad_query', '"sql" should be one statement, as text');
    const startedAt = performance.now();
    try {
      const { columns, rows, truncated } = await gate(() => deps.query(view, sql));
      const ms = Math.round(performance.now() - startedAt);
      const answer = { columns, rows: rows.map((row) => row.map(cut)), truncated, ms };
      return new Response(JSON.stringify(answer), { headers: JSON_HEADERS });
    } catch (error) {
      if (isPinflowError(error, 'query')) throw new PinflowError('bad_query', error.message, { cause: error });
      throw error;
    }
  };
};
