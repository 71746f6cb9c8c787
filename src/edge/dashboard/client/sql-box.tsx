/** @jsxImportSource preact */
import { useState } from 'preact/hooks';
import type { QueryView } from '../../deps.ts';
import { type Answer, answerOf, postJson } from './api.ts';
import { valueText } from './format.ts';
import { Bars, Outcome, Section, Table, Value } from './parts.tsx';

type Result = {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
  readonly truncated: boolean;
  readonly ms: number;
};

const EXAMPLES: Readonly<Record<QueryView, string>> = {
  speed: `select category, count(*) as pins,
  count(*) filter (where is_error) as erroneous
from pins group by category order by pins desc limit 12`,
  batch: `select category, count(*) as pins
from userposts group by category order by pins desc limit 12`,
};

const VIEWS: readonly (readonly [QueryView, string])[] = [
  ['speed', 'speed view (Postgres)'],
  ['batch', 'batch view'],
];

/** Bars beyond this are no picture. */
const MAX_BARS = 40;

const numberOf = (value: unknown): number | null => {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : null;
};

/** A result that makes a picture: a column of names, and the first one of numbers. */
const barsOf = ({ columns, rows }: Result) => {
  const isNumeric = (i: number) => rows.length > 0 && rows.every((row) => numberOf(row[i]) !== null);
  const numbers = columns.findIndex((_, i) => i > 0 && isNumeric(i));
  if (numbers === -1 || rows.length > MAX_BARS) return null;
  const seen = new Map<string, number>();
  const bars = rows.map((row) => {
    const name = valueText(row[0]);
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    const value = numberOf(row[numbers]) ?? 0;
    return { name: times === 1 ? name : `${name} (${times})`, value, text: valueText(row[numbers]) };
  });
  return { label: `${columns[numbers]} by ${columns[0]}`, bars };
};

const ResultTable = ({ result: { columns, rows } }: { readonly result: Result }) => (
  <Table
    label="Rows of the answer"
    head={columns.map((column, i) => (columns.indexOf(column) === i ? column : `${column} (${i + 1})`))}
    numeric={columns.flatMap((_, i) => (rows.length > 0 && rows.every((row) => numberOf(row[i]) !== null) ? [i] : []))}
    rows={rows.map((row, key) => ({
      key,
      cells: row.map((value, i) => (
        <span key={columns[i]} class="clip">
          <Value value={value} />
        </span>
      )),
    }))}
  />
);

const Shown = ({ result }: { readonly result: Result }) => {
  const picture = barsOf(result);
  return (
    <div class="sql-result">
      {picture === null ? null : (
        <figure class="card">
          <figcaption>{valueText(picture.label)}</figcaption>
          <Bars {...picture} />
        </figure>
      )}
      {result.columns.length === 0 ? null : <ResultTable result={result} />}
    </div>
  );
};

const ViewChoice = ({ view, onChange }: { readonly view: QueryView; readonly onChange: (view: QueryView) => void }) => (
  <fieldset class="choice">
    <legend>over</legend>
    {VIEWS.map(([value, name]) => (
      <label key={value}>
        <input type="radio" name="view" value={value} checked={view === value} onChange={() => onChange(value)} />{' '}
        {name}
      </label>
    ))}
  </fieldset>
);

const summaryOf = ({ rows, truncated, ms }: Result): string =>
  `${truncated ? 'The first ' : ''}${rows.length} ${rows.length === 1 ? 'row' : 'rows'} in ${ms} ms.`;

export const SqlBox = () => {
  const [view, setView] = useState<QueryView>('speed');
  const [sql, setSql] = useState(EXAMPLES.speed);
  const [answer, setAnswer] = useState<Answer<Result> | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    setAnswer(await answerOf<Result>(postJson('/sql', JSON.stringify({ view, sql }))));
    setBusy(false);
  };
  const choose = (chosen: QueryView) => {
    setView(chosen);
    // What someone wrote stays; an example follows the view.
    if (Object.values(EXAMPLES).includes(sql)) setSql(EXAMPLES[chosen]);
  };
  const result = answer !== null && 'value' in answer ? answer.value : null;
  return (
    <Section id="sql" title="Ask by SQL" aside={<p class="note">reads only, 500 rows, 10 s</p>}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <ViewChoice view={view} onChange={choose} />
        <label for="sql-text">one statement; Ctrl+Enter runs it</label>
        <textarea
          id="sql-text"
          rows={5}
          spellcheck={false}
          value={sql}
          onInput={(event) => setSql(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void run();
          }}
        />
        <div class="row">
          <button type="submit" class="main" disabled={busy}>
            {busy ? 'Running…' : 'Run'}
          </button>
        </div>
      </form>
      <Outcome problem={answer !== null && 'problem' in answer ? answer.problem : null}>
        {result === null ? null : <p class="note">{summaryOf(result)}</p>}
      </Outcome>
      {result === null ? null : <Shown result={result} />}
    </Section>
  );
};
