import type { HourRange } from '../db/postgres/ledger-pages.ts';
import { PinflowError } from '../errors.ts';

/** The hours of a backfill; `from` is where they begin, `to` where they end. */
export type CleanHours = HourRange & { readonly from: Date; readonly to: Date };

const DAY_OR_HOUR = /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}))?$/;
const HOUR_MS = 3_600_000;

const wrong = (flag: string, given: string | undefined) =>
  new PinflowError(
    'config',
    `${flag} ${given === undefined ? 'is missing' : JSON.stringify(given)}: it should be a day such as 2026-11-01, or an hour of it such as 2026-11-01T18 (UTC).`,
  );

/** The first moment of the hour, in UTC. */
const read = (flag: string, given: string | undefined, hourOfDay: string): Date => {
  const [, day, hour = hourOfDay] = DAY_OR_HOUR.exec(given ?? '') ?? [];
  const moment = new Date(`${day}T${hour}:00:00Z`);
  const exists = !Number.isNaN(moment.getTime()) && moment.toISOString().startsWith(`${day}T${hour}`);
  if (!exists) throw wrong(flag, given);
  return moment;
};

/** As an object's key has it. */
const keyHour = (moment: Date): string => moment.toISOString().slice(0, 13).replace('T', '/hour=');

/**
 * Days or hours, both included, of the first pin of an object (as its key has it).
 * @throws PinflowError `config` saying what it should be
 */
export const hoursBetween = (from: string | undefined, to: string | undefined): CleanHours => {
  const [first, last] = [read('--from', from, '00'), read('--to', to, '23')];
  if (first > last) throw new PinflowError('config', `--from ${from} is after --to ${to}: turn them round.`);
  const end = new Date(last.getTime() + HOUR_MS);
  return { fromHour: keyHour(first), toHour: keyHour(last), from: first, to: end };
};
