import type { Place } from './tally.ts';

/** What `chaos` found. */
export type ChaosReport = {
  readonly seed: number;
  /** Which engine stood behind each part, such as `kafka` or `sqlite`. */
  readonly engines: readonly string[];
  readonly seconds: number;
  /** Pins with a 2xx, and how many ids they were of. */
  readonly acked: number;
  readonly ids: number;
  /** The worst of all places. */
  readonly lost: number;
  readonly duplicated: number;
  readonly places: readonly Place[];
  /** How often each was inflicted. */
  readonly faults: Readonly<Record<string, number>>;
  /** Requests by status; 0 is no answer. */
  readonly statuses: Readonly<Record<number, number>>;
  readonly longestSecondsWithout2xx: number;
};

const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

export const isGood = ({ lost, duplicated }: ChaosReport): boolean => lost === 0 && duplicated === 0;

/** The report as a page of Markdown. */
export const reportPage = (report: ChaosReport): string => `# Chaos report

**${report.acked} pins acked, lost ${report.lost}, duplicated ${report.duplicated}.**

On ${report.engines.join(', ')}; seed ${report.seed}, ${report.seconds} s; the longest time without a 2xx was ${report.longestSecondsWithout2xx} s.

## Stored

${table(
  ['place', 'stored', 'ids', 'lost', 'duplicated'],
  report.places.map((p) => [p.place, p.stored, p.ids, p.lost, p.duplicated]),
)}

${report.ids} ids were acked; every tenth pin is a new version of an id that was posted before. The log has more records than were acked where a
request was sent again because its answer was lost: the views fold those into one row. Lost: an acked id that is not there in its last version, or an
offset of the log that is in no object of the archive. Duplicated: an offset in two objects, a row too many, or a record that the windows of the speed view
counted twice.

## Faults

${table(['fault', 'times'], Object.entries(report.faults))}

## Answers

${table(
  ['status', 'requests'],
  Object.entries(report.statuses).map(([status, times]) => [status === '0' ? 'none' : status, times]),
)}
`;
