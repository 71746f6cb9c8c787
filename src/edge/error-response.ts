import { type ErrorCode, isPinflowError, messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { FieldIssue } from '../pin/decode.ts';

/** The one shape of every error the edge answers with. */
export type ErrorBody = {
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    /** Every field that is wrong, and what it should be. */
    readonly issues?: readonly FieldIssue[];
    /** Stands in the server's log line too. */
    readonly request_id?: string;
  };
};

/** The one table from error to status. */
const STATUS_OF: Readonly<Record<ErrorCode, number>> = {
  malformed_json: 400,
  bad_query: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  slow_body: 408,
  too_large: 413,
  unsupported_media_type: 415,
  invalid_pin: 422,
  rate_limited: 429,
  internal: 500,
  config: 500,
  fenced: 500,
  archive_conflict: 500,
  corrupt_object: 500,
  in_use: 500,
  query: 500,
  timeout: 503,
  overloaded: 503,
  log_unavailable: 503,
  blob_unavailable: 503,
  pin_store_unavailable: 503,
  postgres_unavailable: 503,
  disk_full: 507,
};

/** Seconds a client is asked to wait: about one group commit under overload, or one reconnect to a broker. */
const RETRY_AFTER_SECONDS = 1;

export const JSON_TYPE = 'application/json';

/** Headers of every JSON answer but the one to a single pin: never cached, never taken for HTML. */
export const JSON_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': JSON_TYPE,
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
};

/** What a status asks of the client beyond its body. 408 and 413 leave an unread body behind: the connection is done. */
const HEADERS_OF: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { 'WWW-Authenticate': 'Bearer realm="pinflow", Basic realm="pinflow", charset="UTF-8"' },
  408: { Connection: 'close' },
  413: { Connection: 'close' },
  503: { 'Retry-After': String(RETRY_AFTER_SECONDS) },
};

type Extra = {
  readonly issues?: readonly FieldIssue[];
  readonly requestId?: string;
  readonly headers?: Readonly<Record<string, string>>;
};

/** An error answer. `extra.headers` such as `Allow` are added. */
export const errorResponse = (code: ErrorCode, message: string, extra: Extra = {}): Response => {
  const status = STATUS_OF[code];
  const body: ErrorBody = { error: { code, message, issues: extra.issues, request_id: extra.requestId } };
  const headers = { ...JSON_HEADERS, ...HEADERS_OF[status], ...extra.headers };
  return new Response(JSON.stringify(body), { status, headers });
};

/** Whatever was thrown → an answer. What nobody foresaw is logged here, once, and answered without its details. */
export const responseOf = (error: unknown, logger: Logger): Response => {
  if (isPinflowError(error) && STATUS_OF[error.code] !== 500) return errorResponse(error.code, error.message);
  const requestId = crypto.randomUUID();
  logger.error({ err: error, requestId }, `a request failed: ${messageOf(error)}`);
  return errorResponse('internal', `something went wrong here; the log names it under request id ${requestId}`, {
    requestId,
    headers: { 'X-Request-Id': requestId },
  });
};
