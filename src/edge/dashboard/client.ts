import type { Stage } from '../deps.ts';
import type { Feed, Snapshot } from '../status.ts';

const RECONNECT_MS = 2000;

const EXAMPLE = {
  category: 'mens-fashion',
  index: 7528,
  unique_id: '',
  title: 'Ten quiet outfits for a summer in the city',
  description: 'Linen, light trainers and one good jacket.',
  follower_count: '893k',
  tag_list: 'Mens Fashion,Street Style,Linen',
  is_image_or_video: 'image',
  image_src: 'https://i.pinimg.com/originals/57/90/b0/example.jpg',
  downloaded: 1,
  save_location: 'Local save in /data/mens-fashion',
};

const byId = <E extends HTMLElement = HTMLElement>(id: string): E => {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element as E;
};

const make = (tag: string, text = '', className = ''): HTMLElement => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
};

const number = (n: number) => n.toLocaleString('en');
const time = (stamp: string) => new Date(stamp).toLocaleTimeString();

/** Counts of the snapshot before, for rates. */
let before: { readonly at: number; readonly pins: ReadonlyMap<string, number> } | null = null;

/** Pins a second since the last snapshot; a count that fell means that the server started anew. */
const rateOf = (stage: Stage, at: number): string => {
  const pins = before?.pins.get(stage.name);
  if (before === null || pins === undefined || at <= before.at || stage.pins < pins) return '–';
  return number(Math.round(((stage.pins - pins) * 1000) / (at - before.at)));
};

const showStage = (stage: Stage, at: number): void => {
  const title = make('h3', stage.name);
  title.append(make('small', stage.engine));
  const state = make('p', stage.ready ? 'ready' : `waiting: ${stage.reason ?? 'not up yet'}`, 'state');
  state.dataset.state = stage.ready ? 'ready' : 'waiting';
  const lag = stage.lag === null ? '' : ` · lag ${number(stage.lag)}`;
  const flow = make('div', `${rateOf(stage, at)} pins/s${lag}`, 'flow');
  byId(stage.name).replaceChildren(title, make('div', number(stage.pins), 'pins'), flow, state);
};

const shown = new Map<string, string>();

/** Fills a table only when it changed, so that focus and selection survive the next second. */
const showFeed = <T>(name: string, feed: Feed<T>, row: (item: T) => readonly HTMLElement[]): void => {
  const text = JSON.stringify(feed);
  if (shown.get(name) === text) return;
  shown.set(name, text);
  const body = byId(`${name}-rows`);
  body.replaceChildren(
    ...feed.rows.map((item) => {
      const line = make('tr');
      line.append(...row(item));
      return line;
    }),
  );
  const table = body.closest('table');
  if (table !== null) table.hidden = feed.rows.length === 0;
  const note = byId(`${name}-note`);
  note.textContent = feed.problem === null ? 'none yet' : `cannot be read now: ${feed.problem}`;
  note.hidden = feed.problem === null && feed.rows.length > 0;
};

const show = (snapshot: Snapshot): void => {
  const at = Date.parse(snapshot.at);
  for (const stage of snapshot.stages) showStage(stage, at);
  before = { at, pins: new Map(snapshot.stages.map((stage) => [stage.name, stage.pins])) };
  byId('rejected').textContent = number(snapshot.totals.rejected);
  byId('errors').textContent = number(snapshot.totals.errors);
  byId('dead-letters').textContent = number(snapshot.totals.deadLetters);
  showFeed('errors', snapshot.recentErrors, (pin) => {
    const id = make('button', pin.uniqueId, 'id');
    id.addEventListener('click', () => void find(pin.uniqueId));
    const cell = make('td');
    cell.append(id);
    const missing = make('td', pin.errorFields.join(', '), 'wide');
    return [
      make('td', time(pin.receivedAt)),
      cell,
      make('td', pin.category ?? '–'),
      make('td', pin.title ?? '–', 'wide'),
      missing,
    ];
  });
  showFeed('runs', snapshot.recentRuns, (run) => {
    const took =
      run.endedAt === null ? '…' : `${((Date.parse(run.endedAt) - Date.parse(run.startedAt)) / 1000).toFixed(1)} s`;
    const counts = [run.objects, run.pins, run.errors, run.rejects].map((n) => make('td', number(n), 'number'));
    const status = make(
      'td',
      run.error === null ? run.status : `${run.status}: ${run.error}`,
      run.error === null ? '' : 'wide failed',
    );
    return [make('td', String(run.id)), status, make('td', time(run.startedAt)), make('td', took), ...counts];
  });
};

const sayConnection = (state: 'ready' | 'waiting', text: string): void => {
  const line = byId('connection');
  // A screen reader announces each change of this line: only real ones are written.
  if (line.textContent === text) return;
  line.textContent = text;
  line.dataset.state = state;
};

const connect = (): void => {
  const source = new EventSource('/status/stream');
  source.addEventListener('snapshot', (event) => {
    sayConnection('ready', 'live');
    show(JSON.parse((event as MessageEvent<string>).data) as Snapshot);
  });
  source.addEventListener('error', () => {
    sayConnection('waiting', 'not connected, trying again…');
    before = null;
    // The browser reconnects by itself after a lost connection, but gives up after an answer that is not 200.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RECONNECT_MS);
  });
};

/** Shows an answer of the API as it came: to parse and print it would change numbers beyond 2^53. */
const showAnswer = async (output: HTMLElement, call: () => Promise<Response>): Promise<void> => {
  try {
    const response = await call();
    const where = response.headers.get('X-Pin-Position');
    const head = `${response.status} ${response.statusText}${where === null ? '' : ` · durable at ${where}`}`;
    const text = await response.text();
    output.replaceChildren(make('p', head, response.ok ? 'note' : 'note failed'), make('pre', text));
  } catch {
    output.replaceChildren(make('p', 'the server did not answer: try again', 'note failed'));
  }
};

const find = async (id: string): Promise<void> => {
  byId<HTMLInputElement>('find-id').value = id;
  await showAnswer(byId('find-result'), () => fetch(`/pins/${encodeURIComponent(id)}`));
  byId('find-result').scrollIntoView({ block: 'nearest' });
};

const newPin = (): void => {
  // randomUUID exists on secure origins only; getRandomValues everywhere.
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
  const id = hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
  byId<HTMLTextAreaElement>('post-body').value = JSON.stringify({ ...EXAMPLE, unique_id: id }, null, 2);
};

byId('find').addEventListener('submit', (event) => {
  event.preventDefault();
  void find(byId<HTMLInputElement>('find-id').value.trim());
});
byId('post').addEventListener('submit', (event) => {
  event.preventDefault();
  const body = byId<HTMLTextAreaElement>('post-body').value;
  const headers = { 'Content-Type': 'application/json' };
  void showAnswer(byId('post-result'), () => fetch('/pin/', { method: 'POST', headers, body }));
});
byId('post-new').addEventListener('click', newPin);
newPin();
connect();
