import { useEffect, useState } from 'preact/hooks';
import type { RecentError, RecentRun, Sample, Status } from '../../deps.ts';
import type { Feed } from '../../status.ts';

export type Connection = 'connecting' | 'live' | 'away' | 'locked';

/** What the page knows. */
export type State = {
  readonly connection: Connection;
  /** Why the key that was given does not open. */
  readonly keyProblem: string | null;
  readonly status: (Status & { readonly at: string }) | null;
  /** Oldest first, ten minutes. */
  readonly samples: readonly Sample[];
  readonly errors: Feed<RecentError> | null;
  readonly runs: Feed<RecentRun> | null;
  /** The pin whose journey is shown; a new object at each search. */
  readonly search: { readonly id: string } | null;
};

let state: State = {
  connection: 'connecting',
  keyProblem: null,
  status: null,
  samples: [],
  errors: null,
  runs: null,
  search: null,
};
const listeners = new Set<() => void>();

export const getState = (): State => state;

export const setState = (change: Partial<State>): void => {
  state = { ...state, ...change };
  for (const listener of listeners) listener();
};

/** One part of the state; draws anew when that part is another. */
export const useStore = <T>(pick: (state: State) => T): T => {
  const [value, setValue] = useState(() => pick(state));
  // The pick is written in place, and means the same at every drawing.
  useEffect(() => {
    const update = () => setValue(() => pick(state));
    update();
    listeners.add(update);
    return () => {
      listeners.delete(update);
    };
  }, []);
  return value;
};

/** Shows where one pin stands. */
export const findPin = (id: string): void => {
  setState({ search: { id } });
  document.getElementById('find')?.scrollIntoView();
  document.getElementById('find-title')?.focus();
};
