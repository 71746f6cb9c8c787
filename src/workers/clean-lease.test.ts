import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { systemClock } from '../clock.ts';
import { leaseHolder } from '../db/postgres/ledger.ts';
import { createLogger } from '../logger.ts';
import { connectTo, SET_UP_MS, startDatabase, type TestDatabase } from './clean-fixture.ts';
import { CLEAN_LEASE, type HeldLease, holdLease } from './clean-lease.ts';

const SHORT_MS = 300;
const logger = createLogger('silent', 'test');

setDefaultTimeout(SET_UP_MS);

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await startDatabase();
});
afterAll(() => postgres.close());
beforeEach(() => postgres.reset());

const hold = async (holder: string, database = postgres.database): Promise<HeldLease> => {
  const lease = await holdLease({ database, clock: systemClock, logger }, holder, SHORT_MS);
  if (lease === null) throw new Error('another holds the lease');
  return lease;
};

const lost = (lease: HeldLease) =>
  new Promise<void>((resolve) => {
    if (lease.lost.aborted) resolve();
    lease.lost.addEventListener('abort', () => resolve());
  });

test('held by one, it is not given to another until it is released', async () => {
  const lease = await hold('a');
  await expect(hold('b')).rejects.toThrow('another holds');
  await lease.release();
  const next = await hold('b');
  expect(await leaseHolder(postgres.database, CLEAN_LEASE)).toBe('b');
  await next.release();
  expect(lease.lost.aborted).toBe(false);
});

test('taken by another, its holder is told', async () => {
  const lease = await hold('a');
  await postgres.database.sql`update leases set holder = 'b'`;
  await lost(lease);
  await lease.release();
  expect(await leaseHolder(postgres.database, CLEAN_LEASE)).toBe('b');
});

test('with a database that stays away, its holder gives it up', async () => {
  const database = connectTo(postgres.url);
  const lease = await hold('a', database);
  await database.close();
  await lost(lease);
  await lease.release();
});
