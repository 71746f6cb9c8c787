import { describe, expect, test } from 'bun:test';
import { DrizzleQueryError } from 'drizzle-orm';
import { PinflowError } from '../../errors.ts';
import { isRowError, postgresError } from './errors.ts';

const failure = (code?: string) => Object.assign(new Error('why'), code === undefined ? {} : { code });

describe('postgresError', () => {
  test.each([
    ['ECONNREFUSED', 'postgres_unavailable', true],
    ['ECONNRESET', 'postgres_unavailable', true],
    ['CONNECTION_CLOSED', 'postgres_unavailable', true],
    ['CONNECT_TIMEOUT', 'postgres_unavailable', true],
    ['57P01', 'postgres_unavailable', true],
    ['57P03', 'postgres_unavailable', true],
    ['57014', 'postgres_unavailable', true],
    ['40001', 'postgres_unavailable', true],
    ['40P01', 'postgres_unavailable', true],
    ['53100', 'postgres_unavailable', true],
    ['53300', 'postgres_unavailable', true],
    ['25006', 'postgres_unavailable', true],
    ['08006', 'postgres_unavailable', true],
    ['28P01', 'postgres_unavailable', false],
    ['3D000', 'postgres_unavailable', false],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'postgres_unavailable', false],
    ['42P01', 'query', false],
    ['42501', 'query', false],
    ['22021', 'query', false],
    ['23514', 'query', false],
    [undefined, 'query', false],
  ] as const)('%s is %s, retryable: %s', (code, expected, retryable) => {
    for (const error of [failure(code), new DrizzleQueryError('select 1', [], failure(code))]) {
      expect(postgresError(error)).toMatchObject({ code: expected, retryable });
      expect(postgresError(error).message).toContain('why');
    }
  });

  test('says what to do', () => {
    expect(postgresError(failure('28P01')).message).toContain('DATABASE_URL');
    expect(postgresError(failure('42P01')).message).toContain('migrate');
  });

  test('leaves our own errors as they are', () => {
    const fenced = new PinflowError('fenced', 'another worker');
    expect(postgresError(fenced)).toBe(fenced);
  });

  test('knows a refused row through every wrapping', () => {
    for (const code of ['22001', '23505', '54000']) {
      const error = failure(code);
      for (const wrapped of [error, new DrizzleQueryError('', [], error), postgresError(error)]) {
        expect(isRowError(wrapped)).toBe(true);
      }
    }
    for (const code of ['40P01', '42P01', 'ECONNRESET', undefined]) {
      expect(isRowError(postgresError(failure(code)))).toBe(false);
    }
  });
});
