import type { BlobInfo, BlobStore } from '../../src/blob/blob.ts';
import type { PinStore } from '../../src/db/pin-store/pin-store.ts';
import { PinflowError } from '../../src/errors.ts';
import type { Consumer, ConsumerHandler, PinLog } from '../../src/log/log.ts';
import { type Network, whileAlive } from './network.ts';
import type { Random } from './random.ts';
import type { Process } from './virtual-time.ts';

/** The real ports as one process has them: each call goes over the network, with its faults. */
export type PortDeps = {
  readonly network: Network;
  readonly random: Random;
  readonly process: Process;
  readonly sabotage: Sabotage | null;
};

/** Deliberate mistakes, to prove that the invariants see them. */
export const SABOTAGES = [
  /** The store ignores If-None-Match: the last writer wins. */
  'unconditional put',
  /** Commits what was only delivered. */
  'early commit',
  /** The speed view takes any offset instead of the one it stands at. */
  'unconditional offset',
  /** The edge answers before the log has the pins. */
  'early ack',
] as const;
export type Sabotage = (typeof SABOTAGES)[number];

/** Told before an offset is committed; throws when what is below it is not where it must be. */
export type CheckCommit = (group: string, partition: number, nextOffset: number) => Promise<void>;

const HALF = new PinflowError('log_unavailable', 'the broker took a part of the records only', { retryable: true });

const aliveHandler = (
  process: Process,
  handler: ConsumerHandler,
  before: (partition: number, next: number) => void,
): ConsumerHandler => ({
  assigned: (partitions) => whileAlive(process, handler.assigned(partitions)),
  batch: (batch) => {
    before(batch.partition, (batch.records.at(-1)?.offset ?? 0) + 1);
    return whileAlive(process, handler.batch(batch));
  },
  revoked: (partitions) => whileAlive(process, handler.revoked(partitions)),
});

/** @param isBroker false: the log is a file of the process's own machine, where what a dead process asked is not done */
export const logOf = (
  { network, random, process, sabotage }: PortDeps,
  log: PinLog,
  isBroker: boolean,
  checkCommit: CheckCommit,
): PinLog => {
  const call = <T>(operation: string, work: () => Promise<T>) =>
    network.call(process, 'log', operation, isBroker, work);
  return {
    ...log,
    durability: isBroker ? 'broker' : 'log',
    append: (records) =>
      call('append', async () => {
        if (!isBroker || records.length < 2 || !network.happens(process, 'half', 'log append'))
          return log.append(records);
        await log.append(records.slice(0, random.int(1, records.length - 1)));
        throw HALF;
      }),
    consume: (options) => {
      const commit = async (partition: number, next: number) => {
        await checkCommit(options.group, partition, next);
        await consumer.commit(partition, next);
      };
      const early = (partition: number, next: number) => {
        if (sabotage === 'early commit') commit(partition, next).catch(() => {});
      };
      const consumer: Consumer = log.consume({ ...options, handler: aliveHandler(process, options.handler, early) });
      return {
        done: whileAlive(process, consumer.done),
        commit: (partition, next) => call('commit', () => commit(partition, next)),
        seek: consumer.seek,
        close: () => whileAlive(process, consumer.close()),
      };
    },
    partitions: () => call('partitions', log.partitions),
    committed: (group) => call('committed', () => log.committed(group)),
    read: (from, limit) => call('read', () => log.read(from, limit)),
    lastTimestamp: () => call('lastTimestamp', log.lastTimestamp),
  };
};

export const blobOf = ({ network, process, sabotage }: PortDeps, store: BlobStore): BlobStore => {
  const call = <T>(operation: string, work: () => Promise<T>) => network.call(process, 'blob', operation, true, work);
  const collect = async (infos: AsyncIterable<BlobInfo>) => Array.fromAsync(infos);
  return {
    ...store,
    put: (key, bytes, options) => {
      const ifAbsent = options.ifAbsent && sabotage !== 'unconditional put';
      return call(`put ${key}`, () => store.put(key, bytes, { ...options, ifAbsent }));
    },
    get: (key) => call(`get ${key}`, () => store.get(key)),
    head: (key) => call(`head ${key}`, () => store.head(key)),
    list: async function* (options) {
      yield* await call(`list ${options.prefix}`, () => collect(store.list(options)));
    },
    folders: (prefix) => call(`folders ${prefix}`, () => store.folders(prefix)),
    check: () => call('check', store.check),
  };
};

export const pinStoreOf = ({ network, process }: PortDeps, store: PinStore): PinStore => {
  const call = <T>(operation: string, work: () => Promise<T>) =>
    network.call(process, 'pin store', `${store.name} ${operation}`, true, work);
  return {
    ...store,
    migrate: () => call('migrate', store.migrate),
    upsert: (rows) => call('upsert', () => store.upsert(rows)),
    check: () => call('check', store.check),
  };
};
