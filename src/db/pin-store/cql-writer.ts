import type { Client } from 'cassandra-driver';
import { PinflowError } from '../../errors.ts';
import { retry } from '../../retry.ts';
import { type CqlPlace, faultOf, placeOf, toPinflowError } from './cql-errors.ts';
import { type Insert, insertsOf, type Refusal } from './cql-inserts.ts';
import { insertCql } from './cql-rows.ts';
import type { CqlSession } from './cql-session.ts';
import { checkTypes } from './cql-shape.ts';
import { eachOf } from './each-of.ts';
import type { PinRow } from './pin-store.ts';

/** Rows in one batch: measured on one node, half as many rows a second again as single inserts, and hardly more beyond. */
const MAX_BATCH_ROWS = 60;
/** Bytes in one batch: Cassandra refuses batches over several partitions from 50 KiB on (ScyllaDB from 1 MiB). */
const MAX_BATCH_BYTES = 40 * 1024;
/** Requests under way at once for one call, at most 640 KiB: on one node 8 do as well, a cluster's batches are smaller. */
const MAX_IN_FLIGHT = 16;
/** Tries of one request the cluster did not manage, before the whole call fails for the caller to retry. */
const ATTEMPTS = 3;
const RETRY_BASE_MS = 100;
const RETRY_MAX_MS = 1000;

/** The nodes that hold a row, as one word; null when the driver does not know. */
const replicaNames = (client: Client, keyspace: string): ((key: Buffer) => string | null) => {
  // The driver answers with the same array for all keys of a token range.
  const names = new Map<readonly unknown[], string>();
  /** How many nodes there were when one held a row, and all others did. */
  let holders = 0;
  return (key) => {
    // Where one row is on every node all rows are: a token each costs as much as cleaning the pin. A node more may change it.
    if (holders > 0 && holders === client.hosts.length) return '';
    const hosts = client.getReplicas(keyspace, key);
    if (hosts === null) return null;
    holders = hosts.length === client.hosts.length ? hosts.length : 0;
    if (holders > 0) return '';
    const known = names.get(hosts);
    if (known !== undefined) return known;
    const name = hosts
      .map((host) => host.address)
      .sort()
      .join();
    names.set(hosts, name);
    return name;
  };
};

/**
 * Rows that the same nodes hold, in batches: a node that gets one writes all of it itself, and passes all of it on to the same others.
 * Rows of unknown place go alone, as a batch across nodes is slower than its rows.
 */
export const groupByReplicas = (
  inserts: readonly Insert[],
  replicasOf: (key: Buffer) => string | null,
): readonly (readonly Insert[])[] => {
  const groups: Insert[][] = [];
  const open = new Map<string, { group: Insert[]; bytes: number }>();
  for (const insert of inserts) {
    const replicas = replicasOf(insert.params[0] as Buffer);
    const last = replicas === null ? undefined : open.get(replicas);
    if (last !== undefined && last.group.length < MAX_BATCH_ROWS && last.bytes + insert.bytes <= MAX_BATCH_BYTES) {
      last.group.push(insert);
      last.bytes += insert.bytes;
      continue;
    }
    const group = [insert];
    groups.push(group);
    if (replicas !== null) open.set(replicas, { group, bytes: insert.bytes });
  }
  return groups;
};

const refusedError = (place: CqlPlace, refusals: readonly Refusal[]): PinflowError => {
  const ids = refusals.map((refusal) => refusal.uniqueId).join(', ');
  const why = toPinflowError(place, refusals[0]?.error).message;
  return new PinflowError('invalid_pin', `${placeOf(place)} does not take the pins ${ids}: ${why}`, {
    cause: refusals[0]?.error,
  });
};

/**
 * Upserts rows in unlogged batches by replica. A row the cluster refuses does not hold up the others: they are written, then it throws.
 * @throws PinflowError `pin_store_unavailable` (retryable), `config`, `invalid_pin` naming the rows that were refused
 */
export const cqlWriter = (
  session: CqlSession,
  place: CqlPlace,
): ((rows: readonly PinRow[], generation?: number) => Promise<void>) => {
  const query = insertCql(`${place.keyspace}.userposts`);
  /** Clients whose table has the columns' types. */
  const checked = new WeakSet<Client>();

  const checkOnce = async (client: Client): Promise<void> => {
    if (checked.has(client)) return;
    await checkTypes(client, place);
    checked.add(client);
  };

  const send = (client: Client, inserts: readonly Insert[]): Promise<unknown> => {
    const [first] = inserts;
    return first !== undefined && inserts.length === 1
      ? client.execute(query, first.params, { prepare: true, isIdempotent: true })
      : client.batch(
          inserts.map(({ params }) => ({ query, params })),
          { prepare: true, isIdempotent: true, logged: false },
        );
  };

  const sendPatiently = (client: Client, inserts: readonly Insert[]): Promise<unknown> =>
    retry(() => send(client, inserts), {
      attempts: ATTEMPTS,
      baseMs: RETRY_BASE_MS,
      maxMs: RETRY_MAX_MS,
      retryable: (error) => faultOf(error) === 'busy',
    });

  /** One by one when the batch is refused: it may be one row of it, or the batch as a whole (a lower limit of size). */
  const write = async (client: Client, inserts: readonly Insert[], refusals: Refusal[]): Promise<void> => {
    try {
      await sendPatiently(client, inserts);
    } catch (error) {
      if (faultOf(error) !== 'refused') throw error;
      const [first] = inserts;
      if (first !== undefined && inserts.length === 1) refusals.push({ uniqueId: first.uniqueId, error });
      else for (const insert of inserts) await write(client, [insert], refusals);
    }
  };

  return async (rows, generation = 0) => {
    if (rows.length === 0) return;
    const encoded = insertsOf(rows, generation);
    const refusals = [...encoded.refusals];
    await session.run(async (client) => {
      await checkOnce(client);
      const groups = groupByReplicas(encoded.inserts, replicaNames(client, place.keyspace));
      await eachOf(groups, MAX_IN_FLIGHT, (group) => write(client, group, refusals));
    });
    if (refusals.length > 0) throw refusedError(place, refusals);
  };
};
