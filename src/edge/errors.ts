import type { ErrorCursor, ErrorQuery } from '../db/postgres/error-pins.ts';
import { PinflowError } from '../errors.ts';
import { ERROR_FIELDS, missingReason } from '../pin/missing-reason.ts';
import { isUuid } from '../pin/pin.ts';
import { formatMicros, parseMicros } from '../pin/timestamp.ts';
import { withDeadline } from '../retry.ts';
import { cut } from './cut.ts';
import type { EdgeDeps, RecentError } from './deps.ts';
import { JSON_HEADERS } from './error-response.ts';

/** Pins of a page unless `limit` says otherwise, and at most: some 100 KB of ordinary pins. */
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 500;
/** Characters of a title or category in the answer: a pin's may be as long as the pin. */
const MAX_TEXT = 500;
/** Looks that may run at once: each holds a connection to Postgres. */
const MAX_RUNNING = 2;
/** Above the server's own limit on the statement: then the server itself is silent. Milliseconds. */
const ANSWER_TIMEOUT_MS = 7000;

const PARAMETERS = ['since', 'field', 'category', 'limit', 'cursor'] as const;
type Parameter = (typeof PARAMETERS)[number];

const wrong = (message: string) => new PinflowError('bad_query', message);
const shown = (text: string) => JSON.stringify(text.slice(0, 100));

/** Each parameter at most once and none unknown: one that is misspelt would show other pins than were asked for. */
const readParameters = (search: URLSearchParams): Readonly<Partial<Record<Parameter, string>>> => {
  const given: Partial<Record<Parameter, string>> = {};
  for (const [name, value] of search) {
    const known = PARAMETERS.find((parameter) => parameter === name);
    if (known === undefined) throw wrong(`there is no parameter ${shown(name)}: there are ${PARAMETERS.join(', ')}`);
    if (given[known] !== undefined) throw wrong(`"${known}" is given twice`);
    given[known] = value;
  }
  return given;
};

const readSince = (text: string): number => {
  const micros = parseMicros(text);
  if (micros === null)
    throw wrong(`"since" should be a time in UTC such as 2026-11-23T12:00:00Z, and not ${shown(text)}`);
  return micros;
};

const readField = (text: string): string => {
  if (!ERROR_FIELDS.includes(text))
    throw wrong(`"field" should be one of ${ERROR_FIELDS.join(', ')}, and not ${shown(text)}`);
  return text;
};

const readCategory = (text: string): string => {
  if (text.includes('\0')) throw wrong('"category" holds a NUL, which no category in the speed view does');
  return text;
};

const readLimit = (text: string): number => {
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > MAX_LIMIT) throw wrong(`"limit" should be 1 to ${MAX_LIMIT}, and not ${shown(text)}`);
  return limit;
};

const readCursor = (text: string): ErrorCursor => {
  const [time = '', uniqueId = ''] = text.split(',', 2);
  const receivedAtMicros = parseMicros(time);
  if (receivedAtMicros === null || !isUuid(uniqueId) || text.length !== time.length + 1 + uniqueId.length)
    throw wrong(`"cursor" should be "next" of the page before, and not ${shown(text)}`);
  return { receivedAtMicros, uniqueId };
};

const cursorOf = ({ receivedAt, uniqueId }: RecentError): string =>
  `${formatMicros(parseMicros(receivedAt) ?? 0)},${uniqueId}`;

const readQuery = (search: URLSearchParams, source: string | null): ErrorQuery => {
  const { since, field, category, limit, cursor } = readParameters(search);
  return {
    sinceMicros: since === undefined ? undefined : readSince(since),
    field: field === undefined ? undefined : readField(field),
    category: category === undefined ? undefined : readCategory(category),
    limit: limit === undefined ? DEFAULT_LIMIT : readLimit(limit),
    after: cursor === undefined ? undefined : readCursor(cursor),
    source: source ?? undefined,
  };
};

const pinJson = (pin: RecentError) => ({
  unique_id: pin.uniqueId,
  received_at: pin.receivedAt,
  category: cut(pin.category, MAX_TEXT),
  title: cut(pin.title, MAX_TEXT),
  errors: pin.errorFields.map((field) => ({ field, reason: missingReason(field) })),
});

const late = () =>
  new PinflowError('postgres_unavailable', `Postgres did not answer within ${ANSWER_TIMEOUT_MS} ms`, {
    retryable: true,
  });

/**
 * `GET /errors?since=&field=&category=&limit=&cursor=`: erroneous pins of the speed view, newest first, each with its wrong
 * fields and why; with API_KEYS only those posted with the key that asks. `next` is the cursor of the following page, null at the end.
 */
export const createGetErrors = (deps: Pick<EdgeDeps, 'errorPins'>) => {
  let running = 0;
  const look = async (query: ErrorQuery) => {
    if (running >= MAX_RUNNING)
      throw new PinflowError('rate_limited', `${MAX_RUNNING} such look-ups run already: ask again in a moment`);
    running++;
    // What is late still holds its connection: it counts until it has ended.
    const found = deps.errorPins(query).finally(() => {
      running--;
    });
    return withDeadline(found, ANSWER_TIMEOUT_MS, late);
  };
  return async (search: URLSearchParams, source: string | null): Promise<Response> => {
    const query = readQuery(search, source);
    const found = await look({ ...query, limit: query.limit + 1 });
    const page = found.slice(0, query.limit);
    const last = page.at(-1);
    const next = found.length > page.length && last !== undefined ? cursorOf(last) : null;
    return new Response(JSON.stringify({ pins: page.map(pinJson), next }), { headers: JSON_HEADERS });
  };
};
