import { and, desc, type InferSelectModel, isNull, notInArray, sql } from 'drizzle-orm';
import { asked } from './errors.ts';
import { clockNow, type Db } from './ledger.ts';
import { batchAlerts } from './schema.ts';

export const ALERT_KINDS = ['run_missed', 'run_long', 'archive_late'] as const;
export type AlertKind = (typeof ALERT_KINDS)[number];

export type Late = { readonly kind: AlertKind; readonly subject: string; readonly detail: string };

export type BatchAlert = InferSelectModel<typeof batchAlerts>;

/** Alerts kept after they were resolved: a screenful, not a log. */
const RESOLVED_KEPT = 1000;

/** Makes the open alerts what `late` says: new ones are raised, known ones keep their time, others are resolved. */
export const settleAlerts = async ({ db }: Db, late: readonly Late[]): Promise<void> => {
  const open = isNull(batchAlerts.resolvedAt);
  for (const { kind, subject, detail } of late) {
    await asked(
      db
        .insert(batchAlerts)
        .values({ kind, subject, detail, raisedAt: clockNow })
        .onConflictDoUpdate({
          target: [batchAlerts.kind, batchAlerts.subject],
          targetWhere: sql`${batchAlerts.resolvedAt} is null`,
          set: { detail },
        }),
    );
  }
  const keys = late.map(({ kind, subject }) => `${kind} ${subject}`);
  const over = keys.length === 0 ? open : and(open, notInArray(sql`kind || ' ' || subject`, keys));
  const resolved = await asked(
    db.update(batchAlerts).set({ resolvedAt: clockNow }).where(over).returning({ id: batchAlerts.id }),
  );
  if (resolved.length === 0) return;
  const newest = sql`(select max(id) from ${batchAlerts})`;
  await asked(
    db
      .delete(batchAlerts)
      .where(
        and(sql`${batchAlerts.resolvedAt} is not null`, sql`${batchAlerts.id} <= ${newest} - ${RESOLVED_KEPT}::bigint`),
      ),
  );
};

/** Open alerts, oldest first. */
export const openAlerts = ({ db }: Db): Promise<readonly BatchAlert[]> =>
  asked(db.select().from(batchAlerts).where(isNull(batchAlerts.resolvedAt)).orderBy(batchAlerts.id));

/** The newest alerts, open and resolved. */
export const recentAlerts = ({ db }: Db, limit: number): Promise<readonly BatchAlert[]> =>
  asked(db.select().from(batchAlerts).orderBy(desc(batchAlerts.id)).limit(limit));
