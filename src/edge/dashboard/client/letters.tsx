/** @jsxImportSource preact */
import { useEffect, useState } from 'preact/hooks';
import type { LetterList } from '../../deps.ts';
import { type Answer, answerOf, call, postJson } from './api.ts';
import { count, dateTime, valueText } from './format.ts';
import { Dialog, Outcome, Section, Table } from './parts.tsx';
import { useStore } from './store.ts';

type Letter = {
  readonly stage: string;
  readonly reason: string;
  readonly at: string;
  readonly attempts: number;
  readonly position: { readonly partition: number; readonly offset: number } | null;
  readonly object: string | null;
  readonly value: string;
  readonly encoding: string;
};

type Action = 'retry' | 'drop';

const whereOf = ({ position, object }: Letter): string =>
  position === null ? `object ${object}` : `partition/offset ${position.partition}/${position.offset} of the log`;

const LetterBody = ({ letter }: { readonly letter: Letter }) => (
  <>
    <p>{valueText(letter.reason)}</p>
    <p class="note">
      {letter.stage}, {whereOf(letter)}, {dateTime(letter.at)}, attempts: {letter.attempts}
    </p>
    {letter.value === '' ? null : (
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard
      <section tabIndex={0} aria-label="The record as it was">
        <pre>{valueText(letter.value)}</pre>
      </section>
    )}
  </>
);

type LetterProps = { readonly id: string; readonly onClose: () => void };

const LetterDialog = ({ id, onClose }: LetterProps) => {
  const [letter, setLetter] = useState<Answer<Letter> | null>(null);
  const [dropping, setDropping] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    void answerOf<Letter>(call(`/dlq?id=${encodeURIComponent(id)}`)).then(setLetter);
  }, [id]);
  const resolve = async (action: Action) => {
    const answer = await answerOf(postJson('/dlq', JSON.stringify({ action, ids: [id] })));
    if ('problem' in answer) setProblem(answer.problem);
    else onClose();
  };
  return (
    <Dialog title={`Dead letter ${valueText(id)}`} onClose={onClose}>
      {letter !== null && 'value' in letter ? <LetterBody letter={letter.value} /> : null}
      {letter !== null && 'problem' in letter ? <p class="failed">{valueText(letter.problem)}</p> : null}
      <div class="row">
        <button type="button" class="main" onClick={() => void resolve('retry')}>
          Send again
        </button>
        {dropping ? (
          <button type="button" class="danger" onClick={() => void resolve('drop')}>
            Drop for good
          </button>
        ) : (
          <button type="button" onClick={() => setDropping(true)}>
            Drop…
          </button>
        )}
      </div>
      <Outcome problem={problem} />
    </Dialog>
  );
};

const LetterTable = ({ list, open }: { readonly list: LetterList; readonly open: (id: string) => void }) => {
  const rows = list.letters.map(({ id, stage, reason, at }) => ({
    key: id,
    cells: [
      <button key="id" type="button" class="id" onClick={() => open(id)}>
        {valueText(id)}
      </button>,
      stage,
      dateTime(at),
      <span key="reason" class="clip">
        <bdi>{valueText(reason)}</bdi>
      </span>,
    ],
  }));
  return <Table label="Open dead letters" head={['letter', 'stage', 'since', 'reason']} rows={rows} />;
};

export const Letters = () => {
  const sent = useStore((state) => state.status?.totals.deadLetters ?? null);
  const connection = useStore((state) => state.connection);
  const [answer, setAnswer] = useState<Answer<LetterList> | null>(null);
  const [opened, setOpened] = useState<string | null>(null);
  const load = () => void answerOf<LetterList>(call('/dlq')).then(setAnswer);
  // Asked anew when another letter was sent, or the server is back: reading the queue takes longer than a second's numbers.
  useEffect(() => {
    if (connection === 'live') load();
  }, [sent, connection]);
  const close = () => {
    setOpened(null);
    load();
  };
  const list = answer !== null && 'value' in answer ? answer.value : null;
  const aside = (
    <button type="button" onClick={load}>
      Look again
    </button>
  );
  return (
    <Section id="dlq" title="Dead letters" aside={aside}>
      {answer !== null && 'problem' in answer ? <p class="note failed">{valueText(answer.problem)}</p> : null}
      {list !== null && list.total === 0 ? <p class="note">None: everything could be handled.</p> : null}
      {list !== null && list.total > 0 ? <LetterTable list={list} open={setOpened} /> : null}
      {list !== null && list.total > list.letters.length ? (
        <p class="note">
          The oldest {list.letters.length} of {count(list.total)}.
        </p>
      ) : null}
      {opened === null ? null : <LetterDialog id={opened} onClose={close} />}
    </Section>
  );
};
