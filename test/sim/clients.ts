import type { Edge, Member } from './fleet.ts';
import type { Sim } from './sim.ts';

/** What an answer may be: the edge's own table of errors, without those that mean a mistake of the program. */
const EXPECTED = new Set([200, 207, 408, 413, 422, 503, 507]);
/** A client gives up after this, milliseconds of simulated time. */
const PATIENCE_MS = 8000;
const ATTEMPTS = 3;

const idOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

type Posted = { readonly uniqueId: string; readonly title: string; readonly json: string };

const createPins = ({ random, scenario }: Sim) => {
  let titles = 0;
  return (): Posted => {
    const uniqueId = idOf(random.int(1, scenario.ids));
    const title = `title ${titles++}`;
    const pin = {
      category: random.pick(['mens-fashion', 'tattoos', 'quotes']),
      index: random.int(1, 1000),
      unique_id: random.chance(0.03) ? 'no id' : uniqueId,
      title,
      description: random.chance(0.2) ? 'Untitled' : 'No worries ✓',
      follower_count: random.pick(['5k', '1.5M', 'User Info Error', '893']),
      tag_list: 'one, two',
      is_image_or_video: 'image',
      image_src: random.chance(0.1) ? 'Image src error.' : 'https://i.pinimg.com/a.jpg',
      downloaded: 1,
      save_location: 'Local save in /data/tattoos',
      padding: 'x'.repeat(random.pick([0, 0, 0, 200, 3000])),
    };
    return { uniqueId, title, json: JSON.stringify(pin) };
  };
};

const acksOfLine = async (response: Response, pin: Posted) => {
  const line = (await response.json()) as { title: string; received_at: string };
  if (line.title !== pin.title || !line.received_at)
    throw new Error(`answered ${JSON.stringify(line)} for ${pin.title}`);
  return [{ uniqueId: pin.uniqueId, title: pin.title, position: response.headers.get('x-pin-position') }];
};

type Outcome = { line: number; status: string; position: string | null };

const acksOfBulk = async (response: Response, pins: readonly Posted[]) => {
  const { outcomes } = (await response.json()) as { outcomes: readonly Outcome[] };
  return outcomes.flatMap(({ line, status, position }) => {
    const pin = pins[line - 1];
    return status === 'accepted' && pin !== undefined ? [{ uniqueId: pin.uniqueId, title: pin.title, position }] : [];
  });
};

const gauge = async (of: { get: () => Promise<{ values: readonly { value: number }[] }> }) =>
  (await of.get()).values[0]?.value ?? 0;

/** The bounds of memory and disk that the edge promises. */
const checkBounds = async ({ scenario, fail }: Sim, { metrics }: Edge) => {
  const [pending, spooled] = await Promise.all([gauge(metrics.pendingBytes), gauge(metrics.spoolBytes)]);
  if (pending > scenario.pendingBytes) fail(`the edge holds ${pending} bytes, more than ${scenario.pendingBytes}`);
  if (spooled > scenario.spoolBytes) fail(`the spool holds ${spooled} bytes, more than ${scenario.spoolBytes}`);
};

/** Bytes that wait in the spool of an edge. */
export const spooledRecords = ({ metrics }: Edge): Promise<number> => gauge(metrics.spoolRecords);

/** Sends one request, again when it is not answered well, and keeps what was promised. */
const send = async (sim: Sim, edges: () => readonly Member[], pins: readonly Posted[], isBulk: boolean) => {
  const { random, world, trace } = sim;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const alive = edges().flatMap(({ edge, process }) => (edge && process.state !== 'dead' ? { edge, process } : []));
    const target = alive[random.int(0, Math.max(0, alive.length - 1))];
    if (target !== undefined) {
      const asked = target.edge.post(isBulk ? '/pins' : '/pin/', pins.map(({ json }) => json).join('\n'));
      const response = await Promise.race([asked, world.sleep(PATIENCE_MS)]);
      trace.event(`client: ${target.process.name} answered ${response?.status ?? 'nothing'}`);
      if (response instanceof Response) {
        const { status } = response;
        if (!EXPECTED.has(status)) sim.fail(`the edge answered ${status}: ${await response.text()}`);
        if (status === 503 && response.headers.get('retry-after') === null) sim.fail('a 503 without Retry-After');
        if (status === 200 || status === 207) {
          const [first] = pins;
          sim.acks.push(
            ...(isBulk ? await acksOfBulk(response, pins) : first ? await acksOfLine(response, first) : []),
          );
          await checkBounds(sim, target.edge);
          return;
        }
        if (status === 422 || status === 413) return;
      }
    }
    await world.sleep(random.int(100, 1500));
  }
};

/** A producer that is not ours: what it writes may be no pin at all, or one without a stamp. */
const FOREIGN = ['not json', '[]', '{"unique_id":"nothing else"}', '\u0000'] as const;

const produce = async ({ observer, random, trace }: Sim) => {
  const value = random.chance(0.3)
    ? JSON.stringify({
        category: null,
        index: 1,
        unique_id: idOf(random.int(1, 5)),
        title: 'without a stamp',
        description: null,
        follower_count: null,
        tag_list: null,
        is_image_or_video: null,
        image_src: null,
        downloaded: 0,
        save_location: null,
      })
    : random.pick(FOREIGN);
  trace.event(`foreign record ${value.slice(0, 20)}`);
  await observer.append([{ key: value, value: Buffer.from(value) }]);
};

/** Posts all requests of the scenario at random times while there are faults. Resolves when none waits any more. */
export const runClients = async (sim: Sim, edges: () => readonly Member[]): Promise<void> => {
  const { random, scenario, world } = sim;
  const nextPin = createPins(sim);
  const requests = Array.from({ length: scenario.requests }, async () => {
    const atMs = random.unit() * scenario.faultMs;
    const isBulk = random.chance(0.3);
    const pins = Array.from({ length: isBulk ? random.int(1, 8) : 1 }, nextPin);
    await world.sleep(atMs);
    await send(sim, edges, pins, isBulk);
  });
  const foreign = Array.from({ length: random.int(0, 3) }, async () => {
    await world.sleep(random.unit() * scenario.faultMs);
    await produce(sim);
  });
  await Promise.all([...requests, ...foreign]);
};
