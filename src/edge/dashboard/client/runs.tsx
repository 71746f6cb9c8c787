/** @jsxImportSource preact */
import { useEffect, useState } from 'preact/hooks';
import type { RecentRun, RunDetails } from '../../deps.ts';
import { type Answer, answerOf, call } from './api.ts';
import { count, dateTime, duration, time, valueText } from './format.ts';
import { Dialog, FeedNote, Section, Table, Value } from './parts.tsx';
import { useStore } from './store.ts';

const LISTED = 8;

const tookOf = ({ startedAt, endedAt }: RecentRun): string =>
  endedAt === null ? 'running' : duration((Date.parse(endedAt) - Date.parse(startedAt)) / 1000);

const summaryOf = (run: RecentRun): string =>
  `run ${run.id}, ${run.status}, ${count(run.pins)} pins, started ${time(run.startedAt)}`;

const LEVELS = 4;

/** How full a run was beside the fullest shown: 0 is none. */
const levelOf = (pins: number, most: number): number =>
  pins === 0 ? 0 : Math.max(1, Math.ceil((LEVELS * pins) / most));

const STEPS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowRight: 1, Home: -1000, End: 1000 };

type Open = (id: number) => void;

/** A square a run, oldest first: one stop for Tab, arrows within. */
const RunGrid = ({ runs, open }: { readonly runs: readonly RecentRun[]; readonly open: Open }) => {
  const [focused, setFocused] = useState<number | null>(null);
  const shown = runs.toReversed();
  const most = Math.max(...shown.map(({ pins }) => pins), 1);
  const stop = shown.some(({ id }) => id === focused) ? focused : shown.at(-1)?.id;
  const move = (event: KeyboardEvent, i: number) => {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const to = Math.min(shown.length - 1, Math.max(0, i + step));
    setFocused(shown[to]?.id ?? null);
    const list = (event.currentTarget as HTMLElement).parentElement?.parentElement;
    list?.querySelectorAll<HTMLElement>('button')[to]?.focus();
  };
  return (
    <ol class="run-grid" aria-label="Batch runs, oldest first; arrow keys move, Enter opens">
      {shown.map((run, i) => (
        <li key={run.id}>
          <button
            type="button"
            tabIndex={run.id === stop ? 0 : -1}
            data-status={run.status}
            data-level={levelOf(run.pins, most)}
            aria-label={summaryOf(run)}
            title={summaryOf(run)}
            onFocus={() => setFocused(run.id)}
            onKeyDown={(event) => move(event, i)}
            onClick={() => open(run.id)}
          />
        </li>
      ))}
    </ol>
  );
};

const Facts = ({ details: { run } }: { readonly details: RunDetails }) => {
  const facts: readonly (readonly [string, string])[] = [
    ['status', run.status],
    ['started by', run.reason],
    ['started', dateTime(run.startedAt)],
    ['took', tookOf(run)],
    ['objects', count(run.objects)],
    ['pins', count(run.pins)],
    ['erroneous', count(run.errors)],
    ['rejects', count(run.rejects)],
    ['bytes read', count(run.bytes)],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{valueText(text)}</dd>
        </div>
      ))}
    </dl>
  );
};

const Objects = ({ objects, truncated }: RunDetails) => {
  if (objects.length === 0) return <p class="note">This run found no new object.</p>;
  const rows = objects.map((each) => ({
    key: `${each.store} ${each.key}`,
    cells: [
      <Value key="key" value={each.key} />,
      each.store,
      <span key="status" class={each.status === 'done' ? undefined : 'failed'}>
        {valueText(each.reason === null ? each.status : `${each.status}: ${each.reason}`)}
      </span>,
      count(each.pins),
      count(each.errors),
      count(each.rejects),
    ],
  }));
  return (
    <>
      <Table
        label="Objects of this run"
        head={['object', 'store', 'status', 'pins', 'erroneous', 'rejects']}
        numeric={[3, 4, 5]}
        rows={rows}
      />
      {truncated ? <p class="note">Only the first {objects.length} are listed.</p> : null}
    </>
  );
};

const RunDialog = ({ id, onClose }: { readonly id: number; readonly onClose: () => void }) => {
  const [answer, setAnswer] = useState<Answer<RunDetails> | null>(null);
  useEffect(() => {
    void answerOf<RunDetails>(call(`/runs/${id}`)).then(setAnswer);
  }, [id]);
  return (
    <Dialog title={`Batch run ${id}`} onClose={onClose}>
      {answer === null ? <p class="note">loading…</p> : null}
      {answer !== null && 'problem' in answer ? <p class="failed">{valueText(answer.problem)}</p> : null}
      {answer !== null && 'value' in answer ? (
        <>
          <Facts details={answer.value} />
          {answer.value.run.error === null ? null : <p class="failed">{valueText(answer.value.run.error)}</p>}
          <Objects {...answer.value} />
        </>
      ) : null}
    </Dialog>
  );
};

const RunTable = ({ runs, open }: { readonly runs: readonly RecentRun[]; readonly open: Open }) => {
  const rows = runs.slice(0, LISTED).map((run) => ({
    key: run.id,
    cells: [
      <button key="id" type="button" class="id" aria-label={`Open run ${run.id}`} onClick={() => open(run.id)}>
        {run.id}
      </button>,
      <span key="status" class={run.error === null ? undefined : 'failed'}>
        {valueText(run.status)}
      </span>,
      time(run.startedAt),
      tookOf(run),
      count(run.objects),
      count(run.pins),
      count(run.errors),
    ],
  }));
  return (
    <Table
      label="Newest batch runs"
      head={['run', 'status', 'started', 'took', 'objects', 'pins', 'erroneous']}
      numeric={[4, 5, 6]}
      rows={rows}
    />
  );
};

export const Runs = () => {
  const feed = useStore((state) => state.runs);
  const [opened, setOpened] = useState<number | null>(null);
  const runs = feed?.rows ?? [];
  return (
    <Section id="runs" title="Batch runs">
      <FeedNote feed={feed} none="No batch run yet." />
      {runs.length === 0 ? null : (
        <>
          <RunGrid runs={runs} open={setOpened} />
          <RunTable runs={runs} open={setOpened} />
        </>
      )}
      {opened === null ? null : <RunDialog id={opened} onClose={() => setOpened(null)} />}
    </Section>
  );
};
