import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../clock.ts';
import { messageOf, PinflowError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { createGroupCommit } from './group-commit.ts';
import type { Consumer, PinLog } from './log.ts';
import { createConsumer } from './sqlite-consumer.ts';
import { type OpenSqliteFile, openSqliteFile } from './sqlite-file.ts';
import { openGroupStore } from './sqlite-groups.ts';
import { openRecordStore } from './sqlite-records.ts';
import { createRetention } from './sqlite-retention.ts';

export type SqliteLogOptions = {
  /** Folder of the files; created when missing. */
  readonly dir: string;
  readonly topic: string;
  /** Of a new topic. An existing one keeps its number, with a warning: keys must stay where they are. */
  readonly partitions: number;
  readonly retentionHours: number;
  /** Bytes of the file in use. It does not shrink on the disk: freed pages are used again. */
  readonly retentionBytes: number;
  /** Most bytes waiting to be written. */
  readonly maxPendingBytes: number;
  /** Groups whose commits hold retention back, from before they first come. */
  readonly groups: readonly string[];
  readonly logger: Logger;
  readonly clock?: Clock;
  /** A member that shows no life for this long loses its partitions, milliseconds. (Default: 10,000) */
  readonly sessionTimeoutMs?: number;
  /** What opens the two files. (Default: each log has connections of its own) */
  readonly openFile?: OpenSqliteFile;
};

const SESSION_TIMEOUT_MS = 10_000;
/** How long the first append of a group waits for others, milliseconds: at 256 connections a fifth more throughput than 0, */
const LINGER_MS = 1;
/** and none of the wait where few call: a lone caller is answered in 0.3 ms, not 2. */
const LINGER_AFTER_CALLS = 16;
/** One commit holds the thread up for about 40 ms at most, unless a single call is larger. */
const MAX_BATCH_RECORDS = 5000;
const MAX_BATCH_BYTES = 8 * 1024 * 1024;

const makeFolder = async (dir: string): Promise<void> => {
  try {
    await mkdir(dir, { recursive: true });
  } catch (error) {
    const message = `the folder ${dir} cannot be made (${messageOf(error)}): create it, or change DATA_DIR.`;
    throw new PinflowError('config', message, { cause: error });
  }
};

/**
 * The embedded log: `log-<topic>.db` for the records, `log-<topic>.groups.db` for the consumer groups. Several processes and
 * threads may have it open, each may append and consume. Appends are written on the caller's thread, many in one commit.
 * @throws PinflowError `config` when a file is damaged or not ours, `disk_full`, `log_unavailable`
 */
export const openSqliteLog = async (options: SqliteLogOptions): Promise<PinLog> => {
  const { dir, topic, partitions, logger, clock = systemClock, sessionTimeoutMs = SESSION_TIMEOUT_MS } = options;
  const { openFile = openSqliteFile } = options;
  await makeFolder(dir);
  const path = join(dir, `log-${topic}.db`);
  const records = await openRecordStore(path, partitions, openFile);
  const { partitionCount } = records;
  if (partitionCount !== partitions) {
    logger.warn(
      { topic, partitions: partitionCount, asked: partitions },
      `${path} has ${partitionCount} partitions and keeps them: a topic cannot change their number, only a new one can have ${partitions}`,
    );
  }
  const groups = await openGroupStore(join(dir, `log-${topic}.groups.db`), partitionCount, sessionTimeoutMs, openFile);
  const retention = createRetention({ ...options, records, groups, knownGroups: options.groups, clock });
  const commits = createGroupCommit({
    flush: (calls) => {
      // Whoever writes, tidies: readers and the tools of the command line leave retention alone.
      retention.start();
      return records.append(calls, clock.now());
    },
    maxBatchRecords: MAX_BATCH_RECORDS,
    maxBatchBytes: MAX_BATCH_BYTES,
    maxPendingBytes: options.maxPendingBytes,
    lingerMs: LINGER_MS,
    lingerAfterCalls: LINGER_AFTER_CALLS,
    maxInFlight: 1,
  });
  const consumers = new Set<Consumer>();
  let closing: Promise<void> | null = null;

  const close = async () => {
    await Promise.all([...consumers].map((consumer) => consumer.close()));
    await commits.close();
    retention.stop();
    records.close();
    groups.close();
  };

  return {
    kind: 'sqlite',
    topic,
    durability: 'log',
    append: commits.append,
    consume: (consumeOptions) => {
      if (closing !== null) throw new PinflowError('log_unavailable', `the log of ${topic} is closed.`);
      const consumer = createConsumer({ topic, records, groups, clock, logger, sessionTimeoutMs }, consumeOptions);
      consumers.add(consumer);
      return consumer;
    },
    partitions: async () => records.states(),
    committed: async (group) => groups.committed(group),
    read: async (from, limit) => records.read(from, limit, Number.MAX_SAFE_INTEGER),
    lastTimestamp: async () => records.lastTimestamp(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
};
