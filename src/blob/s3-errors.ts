import { isAboutCertificate, PinflowError, TRUST_ADVICE } from '../errors.ts';

/** What the S3 client throws, as far as it is known. */
type S3Failure = {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly code?: unknown;
  readonly errors?: readonly { readonly code?: unknown }[];
  readonly $metadata?: { readonly httpStatusCode?: number };
};

const failureOf = (error: unknown): S3Failure => (error ?? {}) as S3Failure;
const statusOf = (error: unknown): number | undefined => failureOf(error).$metadata?.httpStatusCode;
const nameOf = (error: unknown): string => String(failureOf(error).name ?? '');
const codeOf = (error: unknown): string => {
  const { code, errors } = failureOf(error);
  return String(code ?? errors?.[0]?.code ?? '');
};

/** The object is not there. A missing bucket is not this: it has a name of its own. */
export const isNoSuchKey = (error: unknown): boolean => ['NoSuchKey', 'NotFound'].includes(nameOf(error));
/** If-None-Match held the put back: the key is taken. */
export const isTaken = (error: unknown): boolean => statusOf(error) === 412;
/** Another conditional write of the key is under way; who wins is not known yet. */
export const isConflict = (error: unknown): boolean =>
  statusOf(error) === 409 && ['ConditionalRequestConflict', 'OperationAborted'].includes(nameOf(error));
/** The server knows no If-None-Match. */
export const isNotImplemented = (error: unknown): boolean => statusOf(error) === 501;

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'EPIPE',
  'ConnectionRefused',
]);

const CREDENTIALS = [
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'ExpiredToken',
  'TokenRefreshRequired',
  // versitygw's word for an unknown access key.
  'XAdminUserNotFound',
];
const REGION = ['AuthorizationHeaderMalformed', 'PermanentRedirect', 'IllegalLocationConstraintException'];

/** Error name → the variable to look at. */
const ADVICE: Readonly<Record<string, string>> = {
  NoSuchBucket: 'there is no such bucket: create it, or correct S3_BUCKET',
  InvalidBucketName: 'a bucket cannot have this name: correct S3_BUCKET',
  AccessDenied: 'the access key may not do this there: check its permissions, S3_BUCKET and S3_PREFIX',
  CredentialsProviderError: 'there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  RequestTimeTooSkewed: 'the clock of this machine is wrong: set it',
  ...Object.fromEntries(
    CREDENTIALS.map((name) => [
      name,
      'the credentials were refused: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    ]),
  ),
  ...Object.fromEntries(REGION.map((name) => [name, 'the region is not that of the bucket: check AWS_REGION'])),
};

const isUnreachable = (error: unknown): boolean => UNREACHABLE.has(codeOf(error)) || nameOf(error) === 'TimeoutError';

const adviceFor = (error: unknown): string => {
  const known = ADVICE[nameOf(error)];
  if (known !== undefined) return known;
  if (isAboutCertificate(codeOf(error))) return `${TRUST_ADVICE}, and S3_ENDPOINT the host it is for`;
  if (isUnreachable(error)) return 'the server cannot be reached: check S3_ENDPOINT (or the network)';
  if (nameOf(error).startsWith('KMS')) return 'its key for encryption cannot be used: check S3_SSE';
  if (statusOf(error) === 403) return 'the server refused: check AWS_ACCESS_KEY_ID, its permissions and S3_BUCKET';
  return 'the server failed';
};

/**
 * @param doing such as `write pins/…`
 * @param location of the store, without secrets
 * @returns PinflowError `blob_unavailable`, retryable when it is the network, the server's load or its own failure
 */
export const s3Error = (doing: string, location: string, error: unknown): PinflowError => {
  if (error instanceof PinflowError) return error;
  const status = statusOf(error) ?? 0;
  const retryable = isUnreachable(error) || isConflict(error) || status >= 500 || status === 429;
  const { message } = failureOf(error);
  const detail = [nameOf(error), typeof message === 'string' ? message.split('\n')[0] : ''].filter(Boolean).join(': ');
  return new PinflowError('blob_unavailable', `could not ${doing} in ${location}: ${adviceFor(error)} (${detail})`, {
    retryable,
    cause: error,
  });
};
