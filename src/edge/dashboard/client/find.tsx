/** @jsxImportSource preact */
import { useEffect, useState } from 'preact/hooks';
import { type Answer, answerOf, call } from './api.ts';
import { dateTime, valueText } from './format.ts';
import { Outcome, Section, Table, Value } from './parts.tsx';
import { findPin, useStore } from './store.ts';

type PinFields = Readonly<Record<string, unknown>>;
type View = {
  readonly state: 'present' | 'absent' | 'unavailable';
  readonly reason?: string;
  readonly position?: string;
  readonly received_at?: string;
  readonly error_fields?: readonly string[];
  readonly pin?: PinFields;
  readonly key?: string;
  readonly offsets?: string;
};

/** As `GET /pins/:unique_id` answers. */
type Journey = {
  readonly unique_id: string;
  readonly log: View;
  readonly archive: View;
  readonly speed_view: View;
  readonly batch_views: readonly (View & { readonly store: string })[];
};

const SAYS = { present: 'there', absent: 'not yet', unavailable: 'cannot be asked' } as const;

const Step = ({ name, view, detail }: { readonly name: string; readonly view: View; readonly detail?: string }) => (
  <li data-state={view.state}>
    <b>{name}</b>{' '}
    <span class="health" data-state={view.state === 'present' ? 'ready' : view.state}>
      {SAYS[view.state]}
    </span>
    {detail === undefined ? null : <span class="detail">{detail}</span>}
    {view.reason === undefined ? null : <span class="detail failed">{valueText(view.reason)}</span>}
  </li>
);

const rowDetail = ({ received_at, position }: View): string | undefined =>
  received_at === undefined ? undefined : `received ${dateTime(received_at)}, from ${position}`;

const Steps = ({ journey }: { readonly journey: Journey }) => {
  const { log, archive, speed_view, batch_views } = journey;
  return (
    <ol class="steps" aria-label="Where the pin stands">
      <Step name="Log" view={log} detail={log.position && `partition/offset ${log.position}`} />
      <Step name="Speed view" view={speed_view} detail={rowDetail(speed_view)} />
      <Step name="Archive" view={archive} detail={archive.key && `${archive.key} (${archive.offsets})`} />
      {batch_views.map((view) => (
        <Step key={view.store} name={`Batch view, ${view.store}`} view={view} detail={rowDetail(view)} />
      ))}
    </ol>
  );
};

const Fields = ({ journey }: { readonly journey: Journey }) => {
  const views = [{ name: 'speed view', view: journey.speed_view as View }].concat(
    journey.batch_views.map((view) => ({ name: `batch view, ${view.store}`, view })),
  );
  const shown = views.filter(({ view }) => view.pin !== undefined);
  const fields = [...new Set(shown.flatMap(({ view }) => Object.keys(view.pin ?? {})))];
  if (fields.length === 0) return null;
  const cell = ({ name, view }: (typeof shown)[number], field: string) =>
    view.error_fields?.includes(field) ? (
      <span key={name} class="failed">
        missing
      </span>
    ) : (
      <Value key={name} value={view.pin?.[field]} />
    );
  const rows = fields.map((field) => ({
    key: field,
    cells: [<b key="field">{field}</b>, ...shown.map((each) => cell(each, field))],
  }));
  return <Table label="The pin after cleaning" head={['field', ...shown.map(({ name }) => name)]} rows={rows} />;
};

/** Milliseconds between looks at a pin that is still on its way, and how many looks there are: two minutes. */
const LOOK_MS = 2000;
const LOOKS = 60;

const arrived = ({ log, archive, speed_view, batch_views }: Journey): boolean =>
  [log, archive, speed_view, ...batch_views].every(({ state }) => state === 'present');

/** Asks where a pin stands until it stands everywhere. @returns ends it */
const followPin = (id: string, show: (answer: Answer<Journey>) => void): (() => void) => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const look = async (left: number) => {
    const answer = await answerOf<Journey>(call(`/pins/${encodeURIComponent(id)}`));
    if (ended) return;
    show(answer);
    if ('value' in answer && !arrived(answer.value) && left > 0) timer = setTimeout(() => void look(left - 1), LOOK_MS);
  };
  void look(LOOKS);
  return () => {
    ended = true;
    clearTimeout(timer);
  };
};

export const Find = () => {
  const search = useStore((state) => state.search);
  const [typed, setTyped] = useState('');
  const [answer, setAnswer] = useState<Answer<Journey> | null>(null);
  useEffect(() => {
    if (search === null) return;
    setTyped(search.id);
    return followPin(search.id, setAnswer);
  }, [search]);
  return (
    <Section id="find" title="Find a pin">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          findPin(typed.trim());
        }}
      >
        <label for="find-id">unique_id</label>
        <div class="row">
          <input
            id="find-id"
            required
            spellcheck={false}
            autocomplete="off"
            placeholder="0f0c2f44-7f3e-4c1d-9a51-6a1f2f0b7c35"
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
          <button type="submit" class="main">
            Find
          </button>
        </div>
      </form>
      <Outcome problem={answer !== null && 'problem' in answer ? answer.problem : null}>
        {answer !== null && 'value' in answer ? <Steps journey={answer.value} /> : null}
      </Outcome>
      {answer !== null && 'value' in answer ? <Fields journey={answer.value} /> : null}
    </Section>
  );
};
