import { errors, types } from 'cassandra-driver';
import { messageOf, PinflowError } from '../../errors.ts';

/**
 * What a failure of the driver or the cluster asks for:
 * - `busy`     the cluster answers, but not this request now: the same call may succeed later
 * - `away`     no node can be reached: connect again, later
 * - `setup`    credentials, permissions, data centre or schema are not right: someone must act
 * - `refused`  this request is wrong or too large: the same call never succeeds
 */
export type CqlFault = 'busy' | 'away' | 'setup' | 'refused';

/** What an error message needs to say where it happened; no secrets. */
export type CqlPlace = {
  readonly name: 'scylla' | 'cassandra';
  readonly contactPoints: readonly string[];
  readonly keyspace: string;
};

const CODES = types.responseErrorCodes;

const BUSY: ReadonlySet<number> = new Set([
  CODES.serverError,
  CODES.unavailableException,
  CODES.overloaded,
  CODES.isBootstrapping,
  CODES.truncateError,
  CODES.writeTimeout,
  CODES.readTimeout,
  CODES.readFailure,
  CODES.writeFailure,
]);
const SETUP: ReadonlySet<number> = new Set([CODES.badCredentials, CODES.unauthorized, CODES.configError]);

/** An invalid request whose fault is the schema, as Cassandra and ScyllaDB word it. */
const SCHEMA_FAULT = /does(?: not|n't) exist|unconfigured table|undefined column|undefined name|unknown identifier/i;

/** A keyspace, table or column that the node does not know (yet). */
export const isSchemaFault = (error: unknown): boolean =>
  error instanceof errors.ResponseError &&
  (error.code === CODES.invalid || error.code === CODES.configError) &&
  SCHEMA_FAULT.test(error.message);

const faultOfResponse = (error: errors.ResponseError): CqlFault => {
  if (BUSY.has(error.code)) return 'busy';
  if (SETUP.has(error.code)) return 'setup';
  // The node forgot the statement and could not prepare it again: it restarted, or the table is gone.
  if (error.code === CODES.unprepared) return 'away';
  return isSchemaFault(error) ? 'setup' : 'refused';
};

/** All hosts failed: the graver of what each said, as far as that holds for the cluster. */
const faultOfHosts = (error: errors.NoHostAvailableError): CqlFault => {
  const each = Object.values((error.innerErrors ?? {}) as Record<string, unknown>);
  const faults = each.map((inner) => (inner instanceof errors.DriverError ? faultOf(inner) : 'away'));
  if (faults.includes('setup')) return 'setup';
  return faults.length > 0 && faults.every((fault) => fault === 'busy') ? 'busy' : 'away';
};

export const faultOf = (error: unknown): CqlFault => {
  if (error instanceof errors.ResponseError) return faultOfResponse(error);
  if (error instanceof errors.NoHostAvailableError) return faultOfHosts(error);
  if (error instanceof errors.OperationTimedOutError || error instanceof errors.BusyConnectionError) return 'busy';
  // The driver says with it that credentials were refused, or that the data centre is not one of the cluster's.
  if (error instanceof errors.AuthenticationError || error instanceof errors.ArgumentError) return 'setup';
  return error instanceof TypeError || error instanceof RangeError ? 'refused' : 'away';
};

/** The first line: NoHostAvailableError carries the stack of what it wraps in its message. */
const shortMessage = (error: unknown): string => {
  const inner = error instanceof errors.NoHostAvailableError ? Object.values(error.innerErrors ?? {})[0] : undefined;
  return (messageOf(inner ?? error).split('\n')[0] ?? '').slice(0, 500);
};

const setupAdvice = (place: CqlPlace, error: unknown): string => {
  const variable = place.name.toUpperCase();
  const inner = error instanceof errors.NoHostAvailableError ? Object.values(error.innerErrors ?? {}) : [];
  const all = [error, ...inner];
  if (all.some((e) => e instanceof errors.AuthenticationError))
    return `Set ${variable}_USERNAME and ${variable}_PASSWORD.`;
  if (all.some((e) => e instanceof errors.ArgumentError)) return `Set ${variable}_DATACENTER.`;
  if (all.some((e) => e instanceof errors.ResponseError && e.code === CODES.unauthorized)) {
    return `Grant it to the user of ${variable}_USERNAME.`;
  }
  return 'Run `migrate`, and check CQL_KEYSPACE.';
};

export const placeOf = (place: CqlPlace): string => `${place.name} at ${place.contactPoints.join(', ')}`;

/** @param error what the driver threw; a PinflowError passes as it is */
export const toPinflowError = (place: CqlPlace, error: unknown): PinflowError => {
  if (error instanceof PinflowError) return error;
  const reason = shortMessage(error);
  switch (faultOf(error)) {
    case 'busy':
      return new PinflowError('pin_store_unavailable', `${placeOf(place)} did not manage the request: ${reason}`, {
        retryable: true,
        cause: error,
      });
    case 'away': {
      const message = `${placeOf(place)} cannot be reached: ${reason}. Is it up, and ${place.name.toUpperCase()}_CONTACT_POINTS right?`;
      return new PinflowError('pin_store_unavailable', message, { retryable: true, cause: error });
    }
    case 'setup': {
      const message = `${placeOf(place)} is not set up for keyspace ${place.keyspace}: ${reason}. ${setupAdvice(place, error)}`;
      return new PinflowError('config', message, { cause: error });
    }
    case 'refused':
      return new PinflowError('invalid_pin', `${placeOf(place)} refuses the request: ${reason}`, { cause: error });
  }
};
