import { runQuery } from '../db/query.ts';
import type { Engines } from '../engines.ts';
import { messageOf } from '../errors.ts';
import { type CommandContext, type Format, printObjects, withEngines } from './context.ts';

type Finding = { readonly part: string; readonly ok: boolean; readonly detail: string };

const probe = async (part: string, work: () => Promise<string>): Promise<Finding> => {
  try {
    return { part, ok: true, detail: await work() };
  } catch (error) {
    return { part, ok: false, detail: messageOf(error) };
  }
};

/** Trino counts its own way; on ScyllaDB its connector has an open report of wrong results (trinodb/trino #11001). */
const compareTrino = (engines: Engines, { config, logger }: CommandContext): Promise<Finding>[] => {
  if (config.TRINO_URL === undefined) return [];
  return engines.pinStores.map((store) =>
    probe(`trino ${store.name}`, async () => {
      const sql = `select count(*) from ${store.name}.${config.CQL_KEYSPACE}.userposts`;
      const [counted, answer] = await Promise.all([store.count(), runQuery({ config, logger, sql, limit: 1 })]);
      const asked = Number(answer.rows[0]?.[0]);
      if (asked !== counted) throw new Error(`Trino counts ${asked} rows, CQL by token ranges ${counted}`);
      return `${counted} rows by Trino and by CQL`;
    }),
  );
};

/** Reaches every engine with the settings as they are. Exit 1 when one cannot be used. */
export const doctor = ({ format }: { readonly format: Format }): Promise<number> =>
  withEngines('doctor', async (engines, context) => {
    const { log, deadLetters, store, pinStores, database } = engines;
    const findings = await Promise.all([
      probe(`log ${log.kind}`, async () => `${(await log.partitions()).length} partitions of ${log.topic}`),
      probe(
        'dead letters',
        async () => `topic ${deadLetters.topic}, ${(await deadLetters.partitions()).length} partition`,
      ),
      probe(`archive ${store.kind}`, async () => {
        await store.check();
        return store.location;
      }),
      ...pinStores.map((s) =>
        probe(`pin store ${s.name}`, async () => {
          await s.check();
          return s.location;
        }),
      ),
      probe('Postgres', async () => {
        await database.check();
        return 'reached and migrated';
      }),
      ...compareTrino(engines, context),
    ]);
    printObjects(findings, format, []);
    return findings.every((f) => f.ok) ? 0 : 1;
  });
