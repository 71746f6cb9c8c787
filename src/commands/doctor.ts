import { ONE_ARCHIVE_WORKER } from '../blob/blob.ts';
import { openBlobStore } from '../blob/open.ts';
import { openPinStores } from '../db/pin-store/open.ts';
import type { PinStore } from '../db/pin-store/pin-store.ts';
import { runQuery } from '../db/query.ts';
import { openDatabase } from '../engines.ts';
import { messageOf } from '../errors.ts';
import { openDeadLetterLog, openLog } from '../log/open.ts';
import { type CommandContext, commandContext, type Format, printObjects } from './context.ts';

type Finding = { readonly part: string; readonly ok: boolean; readonly detail: string };

/** A Postgres that does not answer so often is away: `doctor` reports rather than waits. */
const POSTGRES_ATTEMPTS = 5;

const probe = async (part: string, work: () => Promise<string>): Promise<Finding> => {
  try {
    return { part, ok: true, detail: await work() };
  } catch (error) {
    return { part, ok: false, detail: messageOf(error) };
  }
};

const checkLog = async ({ config, logger }: CommandContext): Promise<string> => {
  const [log, letters] = [await openLog(config, { logger }), await openDeadLetterLog(config, { logger })];
  try {
    const [partitions, letterPartitions] = [await log.partitions(), await letters.partitions()];
    return `${log.kind}: ${log.topic} with ${partitions.length} partitions, ${letters.topic} with ${letterPartitions.length}`;
  } finally {
    await Promise.all([log.close(), letters.close()]);
  }
};

const checkArchive = async ({ config }: CommandContext): Promise<string> => {
  const store = await openBlobStore(config);
  try {
    await store.check();
    const limit = store.supports.conditionalPut ? '' : `; ${ONE_ARCHIVE_WORKER}`;
    return `${store.kind}: ${store.location}${limit}`;
  } finally {
    await store.close();
  }
};

const checkPostgres = async ({ config, logger }: CommandContext): Promise<string> => {
  const { database, close } = await openDatabase(config, logger, 'doctor', POSTGRES_ATTEMPTS);
  try {
    await database.check();
    return `reached and migrated${config.DATABASE_URL === undefined ? ' (embedded)' : ''}`;
  } finally {
    await close();
  }
};

const checkPinStore = async (store: PinStore): Promise<string> => {
  await store.check();
  return store.location;
};

/** Trino counts its own way; on ScyllaDB its connector has an open report of wrong results (trinodb/trino #11001). */
const compareTrino = async ({ config, logger }: CommandContext, store: PinStore): Promise<string> => {
  const sql = `select count(*) from ${store.name}.${config.CQL_KEYSPACE}.userposts`;
  const [counted, answer] = await Promise.all([store.count(), runQuery({ config, logger, sql, limit: 1 })]);
  const asked = Number(answer.rows[0]?.[0]);
  if (asked !== counted) throw new Error(`Trino counts ${asked} rows, CQL by token ranges ${counted}: trust CQL`);
  return `${counted} rows by Trino and by CQL`;
};

/** Reaches every engine with the settings as they are. Exit 1 when one cannot be used. */
export const doctor = async ({ format }: { readonly format: Format }): Promise<number> => {
  const context = commandContext('doctor');
  const pinStores = openPinStores(context.config, context.logger);
  const byTrino = context.config.TRINO_URL === undefined ? [] : pinStores;
  const findings = await Promise.all([
    probe('log', () => checkLog(context)),
    probe('archive', () => checkArchive(context)),
    ...pinStores.map((store) => probe(`pin store ${store.name}`, () => checkPinStore(store))),
    probe('Postgres', () => checkPostgres(context)),
    ...byTrino.map((store) => probe(`Trino on ${store.name}`, () => compareTrino(context, store))),
  ]);
  await Promise.all(pinStores.map((store) => store.close()));
  printObjects(findings, format, []);
  return findings.every((finding) => finding.ok) ? 0 : 1;
};
