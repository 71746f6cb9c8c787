import { PinflowError } from '../errors.ts';
import type { EdgeDeps } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

/** `GET /runs/:id`: one batch run and the objects it went through; 404 when the ledger has no such run. */
export const createGetRun =
  (deps: Pick<EdgeDeps, 'run'>) =>
  async (id: string): Promise<Response> => {
    const details = /^\d{1,15}$/.test(id) ? await deps.run(Number(id)) : null;
    if (details === null)
      throw new PinflowError('not_found', `the ledger has no run ${JSON.stringify(id.slice(0, 100))}`);
    return new Response(JSON.stringify(details), { headers: JSON_HEADERS });
  };
