import { hostname, userInfo } from 'node:os';
import { type BatchRun, recentRuns } from '../db/postgres/ledger.ts';
import { type BatchAlert, openAlerts, recentAlerts } from '../db/postgres/ledger-alerts.ts';
import { schedulePause, setPaused } from '../db/postgres/ledger-schedule.ts';
import { findRun, stepsOfRun } from '../db/postgres/ledger-steps.ts';
import type { Database } from '../db/postgres/open.ts';
import { openDatabase } from '../engines.ts';
import { PinflowError } from '../errors.ts';
import type { QualityReport } from '../pin/quality.ts';
import { CLEAN_LEASE } from '../workers/clean-lease.ts';
import { commandContext, type Format, printObjects, say } from './context.ts';

type Options = { readonly limit: number; readonly format: Format };

const withLedger = async (work: (database: Database) => Promise<number>): Promise<number> => {
  const { config, logger } = commandContext('runs');
  const { database, close } = await openDatabase(config, logger, 'runs');
  try {
    return await work(database);
  } finally {
    await close();
  }
};

const seconds = ({ startedAt, endedAt }: Pick<BatchRun, 'startedAt' | 'endedAt'>): string =>
  endedAt === null ? '' : ((Date.parse(endedAt) - Date.parse(startedAt)) / 1000).toFixed(1);

/** "2026-11-23 18:01:05.123456+00" → to the second */
const toSecond = (stamp: string | null): string => (stamp === null ? '' : stamp.slice(0, 19));

const GRID = [
  'id',
  'why',
  'stands for',
  'status',
  'started',
  'seconds',
  'objects',
  'pins',
  'errors',
  'rejects',
  'error',
];

const gridRow = (run: BatchRun) => ({
  id: run.id,
  why: run.attempt > 1 ? `${run.reason} ${run.attempt}` : run.reason,
  'stands for': toSecond(run.windowTo),
  status: run.status,
  started: toSecond(run.startedAt),
  seconds: seconds(run),
  objects: run.objects,
  pins: run.pins,
  errors: run.errors,
  rejects: run.rejects,
  error: run.error,
});

const alertRow = ({ id, kind, subject, detail, raisedAt, resolvedAt }: BatchAlert) => ({
  id,
  kind,
  subject,
  raised: toSecond(raisedAt),
  resolved: toSecond(resolvedAt),
  detail,
});

/** What is wrong now goes to stderr, beside the answer. */
const sayState = async (database: Database): Promise<void> => {
  const pause = await schedulePause(database, CLEAN_LEASE);
  if (pause?.paused) say(`paused by ${pause.changedBy} since ${toSecond(pause.changedAt)}: \`runs resume\` goes on`);
  for (const { kind, detail, raisedAt } of await openAlerts(database))
    say(`late since ${toSecond(raisedAt)} (${kind}): ${detail}`);
};

/** The run ledger, newest first; JSON and CSV have every column. */
export const runs = ({ limit, format }: Options): Promise<number> =>
  withLedger(async (database) => {
    const found = await recentRuns(database, limit);
    printObjects(format === 'table' ? found.map(gridRow) : found, format, GRID);
    await sayState(database);
    return 0;
  });

const flat = (report: QualityReport): readonly Readonly<Record<string, unknown>>[] => {
  const group = (what: string, counts: Readonly<Record<string, number>>) =>
    Object.entries(counts).map(([name, pins]) => ({ what, name, pins }));
  return [
    ...Object.entries(report.placeholders).flatMap(([field, texts]) => group(`placeholder in ${field}`, texts)),
    ...group('rule applied', report.rules),
    ...group('missing field', report.missing),
    ...group('reject', report.rejects),
  ];
};

const STEP_COLUMNS = ['store', 'key', 'status', 'pins', 'errors', 'rejects', 'bytes', 'ms', 'error'];

/** One run whole: its row, what cleaning met, and each object and store. */
export const showRun = (id: number, { limit, format }: Options): Promise<number> =>
  withLedger(async (database) => {
    const run = await findRun(database, id);
    if (run === null) throw new PinflowError('not_found', `the ledger has no run ${id}: see \`runs\`.`);
    const steps = await stepsOfRun(database, id, limit);
    const rows = steps.map(({ store, key, status, pins, errors, rejects, bytes, ms, error }) => {
      return { store, key, status, pins, errors, rejects, bytes, ms, error };
    });
    if (format === 'json') process.stdout.write(`${JSON.stringify({ ...run, steps: rows }, null, 2)}\n`);
    else if (format === 'csv') printObjects(rows, format, STEP_COLUMNS);
    else {
      printObjects([gridRow(run)], format, GRID);
      printObjects(rows, format, STEP_COLUMNS);
      if (run.quality !== null) printObjects(flat(run.quality), format, ['what', 'name', 'pins']);
    }
    return 0;
  });

/** What was late, and what is. */
export const showAlerts = ({ limit, format }: Options): Promise<number> =>
  withLedger(async (database) => {
    const columns = ['id', 'kind', 'subject', 'raised', 'resolved', 'detail'];
    printObjects((await recentAlerts(database, limit)).map(alertRow), format, columns);
    return 0;
  });

/** Stops or goes on with runs that begin by themselves, in every process; those asked for by hand run anyway. */
export const pauseRuns = (paused: boolean): Promise<number> =>
  withLedger(async (database) => {
    await setPaused(database, CLEAN_LEASE, paused, `${userInfo().username}@${hostname()}`);
    say(paused ? 'paused: no run begins by itself; `runs resume` goes on' : 'resumed');
    return 0;
  });
