/** @jsxImportSource preact */
import { useState } from 'preact/hooks';
import type { RecentError } from '../../deps.ts';
import type { Feed } from '../../status.ts';
import { time } from './format.ts';
import { FeedNote, Section, Table, Value } from './parts.tsx';
import { findPin, useStore } from './store.ts';

/** Stands still while someone reads or walks it by keyboard. */
const usePausable = (feed: Feed<RecentError> | null) => {
  const [held, setHeld] = useState<Feed<RecentError> | null>(null);
  return {
    feed: held ?? feed,
    paused: held !== null,
    toggle: () => setHeld(held === null ? feed : null),
  };
};

const Reasons = ({ fields }: { readonly fields: readonly string[] }) => (
  <ul class="chips" aria-label="missing after cleaning">
    {fields.map((field) => (
      <li key={field}>{field}</li>
    ))}
  </ul>
);

export const Errors = () => {
  const { feed, paused, toggle } = usePausable(useStore((state) => state.errors));
  const rows = (feed?.rows ?? []).map((pin) => ({
    key: pin.uniqueId,
    cells: [
      time(pin.receivedAt),
      <Reasons key="fields" fields={pin.errorFields} />,
      <span key="category" class="clip short">
        <Value value={pin.category} />
      </span>,
      <span key="title" class="clip">
        <Value value={pin.title} />
      </span>,
      <button key="id" type="button" class="id" onClick={() => findPin(pin.uniqueId)}>
        {pin.uniqueId}
      </button>,
    ],
  }));
  const aside = (
    <button type="button" aria-pressed={paused} onClick={toggle} disabled={feed === null}>
      {paused ? 'Go on' : 'Hold still'}
    </button>
  );
  return (
    <Section id="errors" title="Erroneous pins, newest first" aside={aside}>
      <FeedNote feed={feed} none="No pin was erroneous." />
      {rows.length === 0 ? null : (
        <Table
          label="Erroneous pins"
          head={['received', 'missing after cleaning', 'category', 'title', 'pin']}
          rows={rows}
        />
      )}
    </Section>
  );
};
