/** @jsxImportSource preact */
import { Charts } from './charts.tsx';
import { Errors } from './errors.tsx';
import { Find } from './find.tsx';
import { KeyBox } from './key-box.tsx';
import { Letters } from './letters.tsx';
import { Pipeline } from './pipeline.tsx';
import { Post } from './post.tsx';
import { Runs } from './runs.tsx';
import { SqlBox } from './sql-box.tsx';
import { type Connection, useStore } from './store.ts';

const SECTIONS = [
  ['pipeline', 'Pipeline'],
  ['charts', 'Charts'],
  ['errors', 'Errors'],
  ['find', 'Find'],
  ['runs', 'Runs'],
  ['dlq', 'Dead letters'],
  ['post', 'Post'],
  ['sql', 'SQL'],
] as const;

const SAYS: Readonly<Record<Connection, string>> = {
  connecting: 'connecting…',
  live: 'live',
  away: 'the server is away, trying again…',
  locked: 'locked: a key is needed',
};

/** The one live region of the page: it speaks when the connection changes, and not of every second's numbers. */
const ConnectionState = () => {
  const connection = useStore((state) => state.connection);
  return (
    <p class="connection" role="status" data-state={connection}>
      {SAYS[connection]}
    </p>
  );
};

const Header = () => (
  <header class="top">
    <a class="skip" href="#main">
      Skip to the content
    </a>
    <div class="brand">
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d="M1 8h3.5l2-5 3 10 2-5H15" />
      </svg>
      <h1>pinflow</h1>
      <ConnectionState />
    </div>
    <nav aria-label="Sections">
      {SECTIONS.map(([id, name]) => (
        <a key={id} href={`#${id}`}>
          {name}
        </a>
      ))}
    </nav>
  </header>
);

const Page = () => (
  <main id="main">
    <Pipeline />
    <Charts />
    <Errors />
    <Find />
    <div class="pair">
      <Runs />
      <Letters />
    </div>
    <div class="pair">
      <Post />
      <SqlBox />
    </div>
  </main>
);

export const App = () => {
  const locked = useStore((state) => state.connection === 'locked');
  return (
    <>
      <Header />
      {locked ? <KeyBox /> : <Page />}
    </>
  );
};
