import { PinflowError } from '../errors.ts';
import { decodeUtf8 } from '../pin/decode.ts';
import { type BodyLimits, readBody } from './body.ts';
import type { EdgeDeps } from './deps.ts';
import { bodyKind } from './media-type.ts';
import { requireSameOrigin } from './same-origin.ts';

/** Longest body of a command: a statement of 100,000 characters, four bytes each at most, and a little more. */
const MAX_COMMAND_BYTES = 512 * 1024;

const limitsOf = ({ limits }: Pick<EdgeDeps, 'limits'>): BodyLimits => ({
  maxBytes: MAX_COMMAND_BYTES,
  setting: 'nothing: it is fixed for commands',
  timeoutMs: limits.REQUEST_TIMEOUT_MS,
  gzip: false,
});

/**
 * The JSON object of a POST that is no pin: from this origin, small.
 * @throws PinflowError `forbidden`, `unsupported_media_type`, `too_large`, `slow_body`, `malformed_json`
 */
export const readCommand = async (
  deps: Pick<EdgeDeps, 'limits'>,
  request: Request,
): Promise<Readonly<Record<string, unknown>>> => {
  requireSameOrigin(request);
  bodyKind(request.headers.get('content-type'), ['json']);
  const body = await readBody(request, limitsOf(deps), () => {});
  let command: unknown;
  try {
    command = JSON.parse(decodeUtf8(body) ?? '');
  } catch (error) {
    throw new PinflowError('malformed_json', 'the body is not JSON in UTF-8', { cause: error });
  }
  if (typeof command !== 'object' || command === null || Array.isArray(command))
    throw new PinflowError('malformed_json', 'the body is not a JSON object');
  return command as Record<string, unknown>;
};
