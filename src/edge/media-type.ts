import { PinflowError } from '../errors.ts';

const JSON_LIKE = /^application\/(json|[\w.-]+\+json)$/;
const NDJSON = new Set(['application/x-ndjson', 'application/ndjson', 'application/jsonl']);

export type BodyKind = 'json' | 'ndjson';

/**
 * What the Content-Type says the body is; parameters such as `charset` are ignored, as JSON is UTF-8 by definition.
 * Form and text types are refused on purpose: they are what a foreign web page may send without being asked.
 * @throws PinflowError `unsupported_media_type`
 */
export const bodyKind = (header: string | null, allowed: readonly BodyKind[]): BodyKind => {
  // Nearly every request says just this; the general way costs more than the rest of the checks together.
  if (header === 'application/json') return 'json';
  const type = (header ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (JSON_LIKE.test(type)) return 'json';
  if (allowed.includes('ndjson') && NDJSON.has(type)) return 'ndjson';
  const wanted = allowed.includes('ndjson')
    ? 'application/x-ndjson with a pin a line, or application/json with an array of pins'
    : 'application/json (many pins at once go to POST /pins)';
  throw new PinflowError(
    'unsupported_media_type',
    `Content-Type ${header === null ? 'is missing' : `is ${JSON.stringify(header)}`}: send ${wanted}`,
  );
};
