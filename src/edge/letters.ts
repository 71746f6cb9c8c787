import { PinflowError } from '../errors.ts';
import { readCommand } from './command.ts';
import type { EdgeDeps } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

const json = (value: unknown): Response => new Response(JSON.stringify(value), { headers: JSON_HEADERS });

const isText = (value: unknown): value is string => typeof value === 'string';

/**
 * `GET /dlq` lists the open letters of the dead letter queue, oldest first; `GET /dlq?id=…` shows one with its record;
 * `POST /dlq` `{"action":"retry"|"drop","ids":["…"]}` sends them again, or closes them for good.
 */
export const createLetterRoutes = (deps: Pick<EdgeDeps, 'letters' | 'limits'>) => ({
  getLetters: async (id: string | undefined): Promise<Response> => {
    if (id === undefined) return json(await deps.letters.list());
    const letter = await deps.letters.show(id);
    if (letter === null)
      throw new PinflowError('not_found', `no open letter has the id ${JSON.stringify(id.slice(0, 200))}`);
    return json(letter);
  },
  postLetters: async (request: Request): Promise<Response> => {
    const { action, ids } = await readCommand(deps, request);
    if (action !== 'retry' && action !== 'drop')
      throw new PinflowError('malformed_json', '"action" should be "retry" or "drop"');
    if (!Array.isArray(ids) || ids.length === 0 || !ids.every(isText))
      throw new PinflowError('malformed_json', '"ids" should be a list of ids, as GET /dlq has them');
    return json({ action, letters: await deps.letters.resolve(ids, action) });
  },
});
