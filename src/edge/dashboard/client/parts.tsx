/** @jsxImportSource preact */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Feed } from '../../status.ts';
import { valueText } from './format.ts';

type SectionProps = {
  readonly id: string;
  readonly title: string;
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
};

export const Section = ({ id, title, aside, children }: SectionProps) => (
  <section id={id} aria-labelledby={`${id}-title`}>
    <div class="section-head">
      <h2 id={`${id}-title`} tabIndex={-1}>
        {title}
      </h2>
      {aside}
    </div>
    {children}
  </section>
);

/** Text of a pin: isolated, so that its direction does not turn what stands beside it. */
export const Value = ({ value }: { readonly value: unknown }) => <bdi>{valueText(value)}</bdi>;

/** What stands where a list is empty or cannot be read. */
export const FeedNote = ({ feed, none }: { readonly feed: Feed<unknown> | null; readonly none: string }) => {
  if (feed === null) return <p class="note">loading…</p>;
  if (feed.problem !== null) return <p class="note failed">cannot be read now: {valueText(feed.problem)}</p>;
  return feed.rows.length === 0 ? <p class="note">{none}</p> : null;
};

type TableProps = {
  /** Says what the table holds, for the region one can scroll by keyboard. */
  readonly label: string;
  readonly head: readonly string[];
  /** Columns of numbers, by index. */
  readonly numeric?: readonly number[];
  readonly rows: readonly { readonly key: string | number; readonly cells: readonly ComponentChildren[] }[];
};

export const Table = ({ label, head, numeric = [], rows }: TableProps) => (
  // A region that scrolls has to be reachable by keyboard.
  // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
  <section class="scroll" tabIndex={0} aria-label={label}>
    <table>
      <thead>
        <tr>
          {head.map((name, i) => (
            <th key={name} scope="col" class={numeric.includes(i) ? 'number' : undefined}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ key, cells }) => (
          <tr key={key}>
            {cells.map((cell, i) => (
              <td key={head[i]} class={numeric.includes(i) ? 'number' : undefined}>
                {cell}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  </section>
);

type Bar = { readonly name: string; readonly value: number; readonly text: string };

/** A bar a row, longest is the whole width. The numbers stand beside them, so nothing is in the picture only. */
export const Bars = ({ label, bars }: { readonly label: string; readonly bars: readonly Bar[] }) => {
  const most = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
  return (
    <ul class="bars" aria-label={label}>
      {bars.map(({ name, value, text }) => (
        <li key={name}>
          <span class="bar-name">
            <bdi>{name}</bdi>
          </span>
          <span class="bar" aria-hidden="true">
            <span style={{ width: `${Math.max(0, (100 * value) / most)}%` }} />
          </span>
          <span class="bar-value">{text}</span>
        </li>
      ))}
    </ul>
  );
};

type DialogProps = {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
};

/** Opens when it is drawn. The browser keeps the focus inside, closes it by Escape and gives the focus back. */
export const Dialog = ({ title, onClose, children }: DialogProps) => {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="dialog-title">
      <div class="section-head">
        <h2 id="dialog-title">{title}</h2>
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </div>
      {children}
    </dialog>
  );
};

/** What a request came to, in words that are spoken when they come. */
export const Outcome = ({
  problem,
  children,
}: {
  readonly problem?: string | null;
  readonly children?: ComponentChildren;
}) => (
  <div class="outcome" role="status">
    {problem ? <p class="failed">{valueText(problem)}</p> : children}
  </div>
);
