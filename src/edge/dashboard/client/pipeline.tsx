/** @jsxImportSource preact */
import type { Stage } from '../../deps.ts';
import { count, duration, NONE, perSecond, valueText } from './format.ts';
import { rateNow, rateSeries } from './model.ts';
import { Section } from './parts.tsx';
import { useStore } from './store.ts';

type Name = Stage['name'];

const WHAT: Readonly<Record<Name, { readonly title: string; readonly does: string }>> = {
  edge: { title: 'Edge', does: 'takes pins in over HTTP' },
  log: { title: 'Log', does: 'a 2xx means it is here' },
  archive: { title: 'Archive', does: 'raw pins, exactly once' },
  clean: { title: 'Batch view', does: 'cleaned by batch runs' },
  stream: { title: 'Speed view', does: 'cleaned as they come' },
};

/** How fast a wire moves: one dash a second at a pin a second, and no blur above. */
const paceOf = (rate: number | null): string | undefined => {
  if (rate === null || rate === 0) return undefined;
  return `${(2 / Math.log2(2 + rate)).toFixed(2)}s`;
};

/** A minute of rates as a line; the number beside it says the same. */
const Spark = ({ values }: { readonly values: readonly (number | null)[] }) => {
  const known = values.map((value) => value ?? 0);
  const most = Math.max(...known, 1);
  const points = known.map((value, i) => `${(100 * i) / Math.max(1, known.length - 1)},${23 - (22 * value) / most}`);
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points.join(' ')} />
    </svg>
  );
};

const Health = ({ stage }: { readonly stage: Stage }) => {
  const [state, says] = stage.elsewhere
    ? ['elsewhere', 'in other processes']
    : stage.ready
      ? ['ready', 'ready']
      : ['waiting', `waiting: ${valueText(stage.reason ?? 'not up yet')}`];
  return (
    <p class="health" data-state={state}>
      {says}
    </p>
  );
};

/** Seconds behind that are more than a part's own rhythm: the archive keeps pins for some seconds by design. */
const BEHIND_SECONDS = 60;

const Lag = ({ stage: { lag, lagSeconds } }: { readonly stage: Stage }) => {
  if (lag === null) return null;
  const age = lag === 0 || lagSeconds === null ? '' : `, ${duration(Math.round(lagSeconds))}`;
  const behind = (lagSeconds ?? 0) > BEHIND_SECONDS;
  return (
    <span class={behind ? 'lag behind' : 'lag'}>
      lag {count(lag)}
      {age}
    </span>
  );
};

const SPARK_POINTS = 60;

const StageCard = ({ name }: { readonly name: Name }) => {
  const stage = useStore((state) => state.status?.stages.find((each) => each.name === name) ?? null);
  const samples = useStore((state) => state.samples);
  const { title, does } = WHAT[name];
  const values = rateSeries(samples.slice(-SPARK_POINTS), ({ pins }) => pins[name] ?? 0).values;
  return (
    <li class={`stage at-${name}`} data-stage={name}>
      <div class="stage-head">
        <h3>{title}</h3>
        <span class="engine">{stage?.engine ?? ''}</span>
      </div>
      <p class="does">{does}</p>
      <p class="big">
        <span class="stage-pins">{count(stage?.pins)}</span> <small>pins</small>
      </p>
      <Spark values={values} />
      <p class="flow">
        <span class="rate">{perSecond(rateNow(samples, name))}</span> /s
        {stage === null ? null : <Lag stage={stage} />}
      </p>
      {stage === null ? <p class="health">{NONE}</p> : <Health stage={stage} />}
    </li>
  );
};

/** Where the pins go between two parts; the page says it in words in the list's label. */
const Wire = ({ at, from, paths }: { readonly at: string; readonly from: Name; readonly paths: readonly string[] }) => {
  const rate = useStore((state) => rateNow(state.samples, from));
  const pace = paceOf(rate);
  return (
    <li class={`wire at-${at}`} aria-hidden="true">
      <svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
        {paths.map((d) => (
          <g key={d}>
            <path class="pipe" d={d} />
            {pace === undefined ? null : <path class="pins" d={d} style={{ animationDuration: pace }} />}
          </g>
        ))}
      </svg>
    </li>
  );
};

const STRAIGHT = ['M0 50 H100'];
const FORK = ['M0 50 C60 50 40 25 100 25', 'M0 50 C60 50 40 75 100 75'];

const Totals = () => {
  const totals = useStore((state) => state.status?.totals ?? null);
  const facts: readonly (readonly [string, string, number | undefined, boolean])[] = [
    ['rejected', 'refused at the edge', totals?.rejected, false],
    ['erroneous', 'erroneous after cleaning', totals?.errors, false],
    ['dead-letters', 'dead letters', totals?.deadLetters, (totals?.deadLetters ?? 0) > 0],
    ['spooled', 'in the spool', totals?.spooled, (totals?.spooled ?? 0) > 0],
  ];
  return (
    <dl class="totals">
      {facts.map(([id, name, n, alarming]) => (
        <div key={id} class={alarming ? 'alarming' : undefined}>
          <dt>{name}</dt>
          <dd data-total={id}>{count(n)}</dd>
        </div>
      ))}
    </dl>
  );
};

export const Pipeline = () => (
  <Section id="pipeline" title="Pipeline" aside={<p class="note">counts since this server started</p>}>
    <ol
      class="pipeline"
      aria-label="The edge writes to the log; the log goes to the archive and on to the batch view, and to the speed view"
    >
      <StageCard name="edge" />
      <Wire at="edge-log" from="edge" paths={STRAIGHT} />
      <StageCard name="log" />
      <Wire at="fork" from="log" paths={FORK} />
      <StageCard name="archive" />
      <Wire at="archive-clean" from="clean" paths={STRAIGHT} />
      <StageCard name="clean" />
      <StageCard name="stream" />
    </ol>
    <Totals />
  </Section>
);
