import { Client, policies, types } from 'cassandra-driver';
import { PinflowError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { type CqlPlace, faultOf, placeOf, toPinflowError } from './cql-errors.ts';

export type CqlOptions = CqlPlace & {
  readonly datacenter: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly logger: Logger;
};

export type CqlSession = {
  /** Runs `work` on the connected client, connecting first if need be. @throws PinflowError for whatever goes wrong */
  readonly run: <T>(work: (client: Client) => Promise<T>) => Promise<T>;
  readonly close: () => Promise<void>;
};

/** Longest wait for one node's connection, milliseconds: a node that is there answers in a few. */
const CONNECT_TIMEOUT_MS = 5000;
/** Longest wait for an answer, milliseconds: above the cluster's own limits (2 s for writes, 10 s for ranges), so that its reason is seen. */
const READ_TIMEOUT_MS = 12_000;

const newClient = (options: CqlOptions): Client => {
  const client = new Client({
    contactPoints: [...options.contactPoints],
    // Given to the policy, not as localDataCenter: with that, the driver leaves a connection open when the name is wrong.
    policies: { loadBalancing: new policies.loadBalancing.DefaultLoadBalancingPolicy({ localDc: options.datacenter }) },
    credentials:
      options.username === undefined ? undefined : { username: options.username, password: options.password ?? '' },
    // Every statement here may run twice: its rows carry their own timestamps.
    queryOptions: { prepare: true, isIdempotent: true, consistency: types.consistencies.localQuorum },
    encoding: { useBigIntAsLong: true },
    socketOptions: { connectTimeout: CONNECT_TIMEOUT_MS, readTimeout: READ_TIMEOUT_MS },
    monitorReporting: { enabled: false },
  });
  // Of use only when looking closely: calls fail with the same reasons. What the server warns of comes with every batch and page
  // (its size, the tombstones in it), and stands in the server's log too.
  client.on('log', (level: string, from: string, message: string) => {
    const fromServer = message.startsWith('Received warning');
    if ((level === 'warning' || level === 'error') && !fromServer) options.logger.debug({ from }, message);
  });
  return client;
};

/**
 * A client that is connected when first needed, and anew after all nodes were lost: a driver's client that failed to connect, or
 * whose nodes all moved to other addresses, does not come back by itself.
 */
export const openCqlSession = (options: CqlOptions): CqlSession => {
  let current: Promise<Client> | null = null;
  let closed = false;

  const connect = async (): Promise<Client> => {
    const client = newClient(options);
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.shutdown();
      throw error;
    }
  };

  const drop = (session: Promise<Client>) => {
    if (current === session) current = null;
    session.then((client) => client.shutdown()).catch(() => {});
  };

  return {
    run: async (work) => {
      if (closed) throw new PinflowError('pin_store_unavailable', `the store ${placeOf(options)} is closed`);
      current ??= connect();
      const session = current;
      try {
        const client = await session.catch((error) => {
          if (current === session) current = null;
          throw error;
        });
        return await work(client);
      } catch (error) {
        if (!(error instanceof PinflowError) && faultOf(error) === 'away') drop(session);
        throw toPinflowError(options, error);
      }
    },
    close: async () => {
      closed = true;
      const session = current;
      current = null;
      await session?.then((client) => client.shutdown()).catch(() => {});
    },
  };
};
