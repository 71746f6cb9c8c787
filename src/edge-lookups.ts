import { errorPins } from './db/postgres/error-pins.ts';
import { findRun, type RunStep, stepsOfRun } from './db/postgres/ledger-steps.ts';
import type { Database } from './db/postgres/open.ts';
import { chosenLetters, dropLetters, retryLetters } from './dead-letters.ts';
import type { EdgeDeps, Letters, RunObject } from './edge/deps.ts';
import { type DeadLetter, followLetters, openLetters } from './log/dlq.ts';
import type { PinLog } from './log/log.ts';
import { createQueryBox } from './query-box.ts';

/** Letters in a list, objects of a run: what a page shows. */
const MAX_LETTERS = 200;
const MAX_OBJECTS = 500;

type Deps = {
  readonly log: PinLog;
  readonly database: Database;
  /** A pool of its own for SQL from the dashboard, so that a slow question does not hold up the page's other numbers. */
  readonly queries: Pick<Database, 'sql' | 'db'>;
  /** Whether Postgres is the embedded one. */
  readonly embeddedPostgres: boolean;
  /** Opened when it is first asked: a broker that is away must not hold up the start. */
  readonly openDeadLetters: () => Promise<PinLog>;
};

/** What a list shows of a letter: not its record, which may be large. */
const headOf = ({ stage, reason, at, attempts }: DeadLetter) => ({ stage, reason, at, attempts });

const openQueue = async (open: Deps['openDeadLetters']) => {
  const log = await open();
  return { log, follow: followLetters(log, headOf) };
};

const createLetters = ({ log, database, openDeadLetters }: Deps): Letters & { readonly close: () => Promise<void> } => {
  let opened: ReturnType<typeof openQueue> | null = null;
  /** Lists one after the other: each reads on where the one before it stopped. */
  let listing: Promise<unknown> = Promise.resolve();
  const queue = () => {
    opened ??= openQueue(openDeadLetters).catch((error: unknown) => {
      opened = null;
      throw error;
    });
    return opened;
  };
  const deadLetters = async (): Promise<PinLog> => (await queue()).log;
  const list = async () => {
    const open = await (await queue()).follow();
    return { total: open.size, letters: [...open].slice(0, MAX_LETTERS).map(([id, head]) => ({ id, ...head })) };
  };
  return {
    list: () => {
      const listed = listing.then(list);
      listing = listed.catch(() => undefined);
      return listed;
    },
    show: async (id) => (await openLetters(await deadLetters())).get(id) ?? null,
    resolve: async (ids, action) => {
      const engines = { log, database, deadLetters: await deadLetters() };
      const letters = await chosenLetters(engines, ids);
      await (action === 'retry' ? retryLetters(engines, letters) : dropLetters(engines, letters));
      return letters.size;
    },
    close: async () => {
      await opened?.then(({ log: queued }) => queued.close()).catch(() => undefined);
    },
  };
};

const objectOf = ({ key, store, status, pins, errors, rejects, error }: RunStep): RunObject => ({
  key,
  store,
  status,
  pins,
  errors,
  rejects,
  reason: error,
});

/** What the edge's read-only routes and its dead letter queue ask the engines. */
export const createEdgeLookups = (
  deps: Deps,
): Pick<EdgeDeps, 'run' | 'errorPins' | 'letters' | 'query'> & { readonly close: () => Promise<void> } => {
  const letters = createLetters(deps);
  return {
    run: async (id) => {
      const run = await findRun(deps.database, id);
      if (run === null) return null;
      const steps = await stepsOfRun(deps.database, id, MAX_OBJECTS + 1);
      const objects = steps.slice(0, MAX_OBJECTS).map(objectOf);
      return { run, objects, truncated: steps.length > MAX_OBJECTS };
    },
    // Of the pool that is for what may be slow: the dashboard's numbers do not wait behind a long look.
    errorPins: (query) => errorPins(deps.queries, query),
    letters,
    query: createQueryBox({ database: deps.queries, embedded: deps.embeddedPostgres }),
    close: letters.close,
  };
};
