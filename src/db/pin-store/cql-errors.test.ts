import { describe, expect, test } from 'bun:test';
import { errors, types } from 'cassandra-driver';
import { PinflowError } from '../../errors.ts';
import { type CqlFault, faultOf, toPinflowError } from './cql-errors.ts';

const place = { name: 'scylla', contactPoints: ['10.0.0.1:9042'], keyspace: 'pinkeyspace' } as const;
const codes = types.responseErrorCodes;

/** As the driver makes it of the server's answer; its constructor is not in the driver's types. */
const response = (code: number, message = 'as the server words it'): Error =>
  Object.assign(Object.create(errors.ResponseError.prototype) as errors.ResponseError, { code, message });
const noHost = (...inner: Error[]) =>
  new errors.NoHostAvailableError(Object.fromEntries(inner.map((error, i) => [`10.0.0.${i}:9042`, error])));

const CASES: readonly (readonly [name: string, error: Error, fault: CqlFault])[] = [
  ['overloaded', response(codes.overloaded), 'busy'],
  ['a write that timed out', response(codes.writeTimeout), 'busy'],
  ['too few replicas', response(codes.unavailableException), 'busy'],
  ['no answer in time', new errors.OperationTimedOutError('12000 ms'), 'busy'],
  ['every host overloaded', noHost(response(codes.overloaded), response(codes.isBootstrapping)), 'busy'],
  ['no host at all', noHost(), 'away'],
  ['a refused connection', noHost(new Error('connect ECONNREFUSED')), 'away'],
  ['one host overloaded, one away', noHost(response(codes.overloaded), new Error('connect ECONNREFUSED')), 'away'],
  ['a statement the node forgot', noHost(response(codes.unprepared)), 'away'],
  ['a closed socket', new Error('read ECONNRESET'), 'away'],
  ['wrong credentials', noHost(new errors.AuthenticationError('no')), 'setup'],
  ['no permission', response(codes.unauthorized), 'setup'],
  ['a data centre that is not there', new errors.ArgumentError('Datacenter x was not found'), 'setup'],
  ['a keyspace that is not there', response(codes.invalid, 'keyspace x does not exist'), 'setup'],
  ['a table that is not there (ScyllaDB)', response(codes.invalid, 'unconfigured table userposts'), 'setup'],
  ['a column that is not there', response(codes.invalid, 'Undefined column name zz in table x'), 'setup'],
  ['a request that is too large', response(codes.invalid, 'Request is too big'), 'refused'],
  ['a value that cannot be encoded', new TypeError('Expected Number'), 'refused'],
];

describe('errors of ScyllaDB and Cassandra', () => {
  test.each(CASES)('%s', (_, error, fault) => {
    expect(faultOf(error)).toBe(fault);
    const mapped = toPinflowError(place, error);
    expect(mapped.retryable).toBe(fault === 'busy' || fault === 'away');
    expect(mapped.cause).toBe(error);
    expect(mapped.message).toContain('scylla at 10.0.0.1:9042');
  });

  test.each([
    ['SCYLLA_PASSWORD', noHost(new errors.AuthenticationError('no'))],
    ['SCYLLA_DATACENTER', new errors.ArgumentError('Datacenter x was not found')],
    ['SCYLLA_USERNAME', response(codes.unauthorized)],
    ['CQL_KEYSPACE', response(codes.invalid, 'keyspace x does not exist')],
    ['SCYLLA_CONTACT_POINTS', noHost(new Error('connect ECONNREFUSED'))],
  ])('the message names %s', (variable, error) => {
    expect(toPinflowError(place, error).message).toContain(variable);
  });

  test('lets a PinflowError pass', () => {
    const error = new PinflowError('config', 'as it is');
    expect(toPinflowError(place, error)).toBe(error);
  });
});
