/**
 * The one error type of pinflow. A message says what was wrong, where, and what to do; `code` is for programs and is
 * documented in README.md; `retryable` says whether the same call may succeed later without anyone changing anything.
 */
export const ERROR_CODES = [
  'invalid_pin',
  'malformed_json',
  'too_large',
  'unsupported_media_type',
  'not_found',
  'method_not_allowed',
  'unauthorized',
  'forbidden',
  'slow_body',
  'timeout',
  'overloaded',
  'rate_limited',
  'disk_full',
  'log_unavailable',
  'blob_unavailable',
  'pin_store_unavailable',
  'postgres_unavailable',
  'fenced',
  'archive_conflict',
  'corrupt_object',
  'config',
  'in_use',
  'query',
  'bad_query',
  'internal',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export class PinflowError extends Error {
  override readonly name = 'PinflowError';
  readonly code: ErrorCode;
  readonly retryable: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly retryable?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** True for a PinflowError, narrowed to one code if given. */
export const isPinflowError = (error: unknown, code?: ErrorCode): error is PinflowError =>
  error instanceof PinflowError && (code === undefined || error.code === code);

/** The message of anything thrown, for a log line or a DLQ reason. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Texts and codes of a TLS handshake that fails because the other side's certificate is not trusted or not for this host. */
const CERTIFICATE = /certificate|self.signed|\bCERT_|UNABLE_TO_(GET|VERIFY)|ERR_TLS_CERT/i;

/** True for the code or the message of a failure that is about the server's certificate. */
export const isAboutCertificate = (text: string): boolean => CERTIFICATE.test(text);

/** What to do about it where the engine has no setting of its own for a certificate authority. */
export const TRUST_ADVICE =
  'its certificate is not trusted: let NODE_EXTRA_CA_CERTS name the PEM file of its certificate authority';
