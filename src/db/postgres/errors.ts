import { isAboutCertificate, isPinflowError, messageOf, PinflowError, TRUST_ADVICE } from '../../errors.ts';

/** What a failed call means, by SQLSTATE class (PostgreSQL manual, appendix A) or by the driver's and the system's code. */
type Failure = {
  /** Longest prefix first: `42P01` stands before `42`. */
  readonly prefix: string;
  readonly kind: 'unavailable' | 'refused' | 'row' | 'schema' | 'statement';
};

const FAILURES: readonly Failure[] = [
  { prefix: '3D000', kind: 'refused' },
  { prefix: '28', kind: 'refused' },
  { prefix: 'SASL', kind: 'refused' },
  { prefix: 'AUTH_TYPE', kind: 'refused' },
  ...['CERT_', 'DEPTH_ZERO', 'SELF_SIGNED', 'UNABLE_TO', 'ERR_TLS'].map((prefix) => ({
    prefix,
    kind: 'refused' as const,
  })),
  { prefix: '42P01', kind: 'schema' },
  { prefix: '42703', kind: 'schema' },
  { prefix: '3F000', kind: 'schema' },
  { prefix: '42P10', kind: 'schema' },
  { prefix: '22', kind: 'row' },
  { prefix: '23', kind: 'row' },
  { prefix: '54', kind: 'row' },
  // Connection lost, deadlock or serialization, disk or connections or memory used up, lock or statement timeout,
  // shutdown or start-up, I/O trouble, a replica that is not yet (or no longer) the primary.
  ...['08', '40', '53', '55', '57', '58', '25006', '25P03'].map((prefix) => ({
    prefix,
    kind: 'unavailable' as const,
  })),
  ...['CONNECT', 'ECONN', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'EHOST', 'ENET', 'ETIMEDOUT'].map((prefix) => ({
    prefix,
    kind: 'unavailable' as const,
  })),
];

const codeOf = (error: unknown): string | undefined => {
  if (typeof error !== 'object' || error === null) return undefined;
  // Drizzle wraps what the driver threw; our own errors carry it as their cause.
  if ('cause' in error && error.cause !== undefined) return codeOf(error.cause) ?? ownCode(error);
  return ownCode(error);
};

const ownCode = (error: object): string | undefined =>
  'code' in error && typeof error.code === 'string' && !(error instanceof PinflowError) ? error.code : undefined;

const rootOf = (error: unknown): unknown =>
  error instanceof Error && error.cause !== undefined && !isPinflowError(error) ? rootOf(error.cause) : error;

const kindOf = (code: string | undefined): Failure['kind'] | undefined =>
  FAILURES.find(({ prefix }) => code?.startsWith(prefix))?.kind;

/** True when a value of some row is what the database refused: the same transaction without that row may succeed. */
export const isRowError = (error: unknown): boolean => kindOf(codeOf(error)) === 'row';

/** No COPY from the client (the embedded Postgres), no right to make temporary tables, or a pooler that allows neither. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['0A000', '42501']);

/** True when this server, or this login, has not got what a statement wants: another way may do. */
export const isUnsupported = (error: unknown): boolean => UNSUPPORTED.has(codeOf(error) ?? '');

const LOST = /^(CONNECTION_CLOSED|ECONN|EPIPE|EHOST|ENET|ETIMEDOUT)/;

/** True when the connection is gone, and not only the statement: nothing more can be asked on it, not even to roll back. */
export const isConnectionLost = (error: unknown): boolean => LOST.test(codeOf(error) ?? '');

/**
 * Anything thrown by the driver or by Drizzle → one error that says what to do, and whether trying again may help.
 * `postgres_unavailable` is retryable for a lost or refused connection, a shutdown, a deadlock or a full server, and not
 * for a refused login; `query` is a statement or a value that will fail again. A PinflowError passes through.
 */
export const postgresError = (error: unknown): PinflowError => {
  if (isPinflowError(error)) return error;
  const code = codeOf(error);
  const kind = kindOf(code);
  const detail = `${messageOf(rootOf(error)) || 'no reason given'}${code === undefined ? '' : ` (${code})`}`;
  const because = (where: string, todo: string) => `Postgres ${where}: ${detail}. ${todo}`;
  if (kind === 'unavailable') {
    const todo = 'Check that it runs and that DATABASE_URL points at it; this is tried again.';
    return new PinflowError('postgres_unavailable', because('cannot be used now', todo), {
      retryable: true,
      cause: error,
    });
  }
  if (kind === 'refused') {
    const todo = isAboutCertificate(code ?? '')
      ? `Where DATABASE_URL has sslmode=verify-full, ${TRUST_ADVICE}, and DATABASE_URL the host it is for.`
      : 'Set the user, password, database and sslmode of DATABASE_URL right.';
    return new PinflowError('postgres_unavailable', because('does not let us in', todo), { cause: error });
  }
  const [where, todo] =
    kind === 'schema'
      ? ['lacks a table or column this program needs', 'Run `migrate`.']
      : kind === 'row'
        ? ['refused a value', 'The row in question is set aside.']
        : ['refused a statement', 'Trying again will not help.'];
  return new PinflowError('query', because(where, todo), { cause: error });
};

/** The query's rows, or its failure as a PinflowError. @throws PinflowError as {@link postgresError} says */
export const asked = <T>(query: PromiseLike<T>): Promise<T> =>
  Promise.resolve(query).catch((error: unknown) => Promise.reject(postgresError(error)));
