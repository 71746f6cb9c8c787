import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { postgresEngines } from '../../test/fixtures/postgres.ts';
import { systemClock } from '../clock.ts';
import type { Database } from '../db/postgres/open.ts';
import { createSpeedWriter } from '../db/postgres/speed-commit.ts';
import { streamOffsets } from '../db/postgres/speed-view.ts';
import { PinflowError } from '../errors.ts';
import { type Harness, openHarness, somePin } from './fixture.ts';

const SET_UP_MS = 60_000;

/** Milliseconds; a busy machine may be slow, a wrong program waits for ever. */
setDefaultTimeout(30_000);

type Event = { readonly id: string; readonly data: Readonly<Record<string, unknown>> };

/** Reads events as a browser does: an id without data is no event, and yet the last id. */
const listen = (response: Response) => {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  const seen = { text: '', id: '' };
  const events: Event[] = [];
  const block = (text: string) => {
    seen.id = /^id: (.*)$/m.exec(text)?.[1] ?? seen.id;
    const data = /^data: (.*)$/m.exec(text)?.[1];
    if (data !== undefined) events.push({ id: seen.id, data: JSON.parse(data) });
  };
  const more = async () => {
    const { done, value } = await reader.read();
    seen.text += decoder.decode(value, { stream: true });
    const blocks = seen.text.split('\n\n');
    seen.text = blocks.pop() ?? '';
    for (const each of blocks) block(each);
    return !done;
  };
  return {
    seen,
    /** The next `count` events. */
    take: async (count: number): Promise<readonly Event[]> => {
      while (events.length < count) if (!(await more())) throw new Error('the stream ended');
      return events.splice(0, count);
    },
    ended: async () => {
      while (await more());
      return true;
    },
    leave: () => reader.cancel(),
  };
};

for (const engine of await postgresEngines()) {
  describe.skipIf(!engine.available)(`GET /feedback over ${engine.name}`, () => {
    let database: Database;
    let harness: Harness;
    const leaving: (() => unknown)[] = [];
    beforeAll(async () => {
      database = await engine.open();
      const handled = () => streamOffsets(database, 'pins');
      harness = await openHarness({
        deps: { feedback: { handled, read: (from, limit) => harness.log.read(from, Math.min(limit, 99)) } },
      });
    }, SET_UP_MS);
    afterEach(async () => {
      for (const leave of leaving.splice(0)) await leave();
    });
    afterAll(async () => {
      await harness.close();
      await database.close();
    }, SET_UP_MS);

    const post = async (over: Readonly<Record<string, unknown>> = {}) => {
      const pin = somePin(over);
      await harness.post('/pin/', JSON.stringify(pin));
      return String(pin.unique_id);
    };
    /** As the stream worker does it: the offset moves in Postgres. */
    const handle = async () => {
      const writer = createSpeedWriter(database);
      const stored = await streamOffsets(database, 'pins');
      for (const { partition, end } of await harness.log.partitions()) {
        const from = stored.get(partition) ?? null;
        if (end > (from ?? 0)) await writer.commit({ topic: 'pins', partition, from, to: end }, writer.prepare([]));
      }
    };
    const open = async (query = '', lastEventId?: string, draining?: AbortSignal) => {
      const headers: Record<string, string> = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
      const response = await harness.app.request(`/feedback${query}`, { headers }, draining ? { draining } : {});
      expect(response.status).toBe(200);
      const stream = listen(response);
      leaving.push(stream.leave);
      return stream;
    };
    const positionsOf = (events: readonly Event[]) => events.map((event) => event.data.position).toSorted();
    const idsOf = (events: readonly Event[]) => events.map((event) => event.data.unique_id).toSorted();

    test('says of each pin, once the speed view has it, whether it is clean or which fields are wrong and why', async () => {
      await post();
      await handle();
      const stream = await open();
      const clean = await post();
      const wrong = await post({ title: 'No Title Data Available', follower_count: 'kk' });
      await handle();
      const told = new Map((await stream.take(2)).map(({ data }) => [data.unique_id, data]));
      expect(told.get(clean)).toMatchObject({ clean: true, errors: [], category: 'tattoos' });
      expect(told.get(wrong)).toMatchObject({
        clean: false,
        errors: [
          { field: 'title', posted: 'No Title Data Available', reason: expect.stringContaining('placeholder') },
          { field: 'follower_count', posted: 'kk', reason: expect.stringContaining('893k') },
        ],
      });
    });

    test('a POST that waits for feedback gets what the stream says of this very pin', async () => {
      const stream = await open();
      const over = { title: 'Untitled', description: 'Untitled', follower_count: '3k' };
      const waiting = harness.post('/pin/?wait=feedback', JSON.stringify(somePin(over)));
      const other = harness.post('/pin?wait=feedback', JSON.stringify(somePin()));
      while ((await harness.count()) === 0) await Bun.sleep(10);
      const isOver = Promise.all([waiting, other]).then(() => true);
      while (!(await Promise.race([isOver, Bun.sleep(50).then(() => false)]))) await handle();
      const answers = await Promise.all([waiting, other]);
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      const told = await Promise.all(answers.map((answer) => answer.json() as Promise<Event['data']>));
      expect(told.map(({ clean }) => clean)).toEqual([false, true]);
      expect(told[0]).toMatchObject({ errors: [{ field: 'description', posted: 'Untitled' }] });
      expect(answers.map(({ headers }) => headers.get('x-pin-position'))).toEqual(
        told.map((t) => t.position as string),
      );
      const bySerial = (a: Event['data'], b: Event['data']) => String(a.position).localeCompare(String(b.position));
      expect((await stream.take(2)).map(({ data }) => data).toSorted(bySerial)).toEqual(told.toSorted(bySerial));
    });

    test('says nothing of a pin the speed view has not handled', async () => {
      const stream = await open();
      const [later, first] = [await post(), await post()];
      // Only the partition's end moves the speed view: before it neither is told.
      await Bun.sleep(600);
      await handle();
      expect(idsOf(await stream.take(2))).toEqual([later, first].toSorted());
    });

    test('goes on exactly after any event, every version of a pin included', async () => {
      const stream = await open();
      const ids = await Promise.all(Array.from({ length: 20 }, () => post()));
      const [again = ''] = ids;
      await post({ unique_id: again });
      await handle();
      const events = await stream.take(21);
      expect(idsOf(events)).toEqual([...ids, again].toSorted());
      for (const cut of [0, 7, 19]) {
        const resumed = await open('', events[cut]?.id);
        const rest = events.slice(cut + 1);
        // In the order of each partition; which partition is told first is not promised.
        expect(positionsOf(await resumed.take(rest.length))).toEqual(positionsOf(rest));
      }
    });

    test('tells all of more than a page, also when the log gives them in pieces', async () => {
      const stream = await open();
      const pins = Array.from({ length: 2000 }, () => somePin());
      await harness.post('/pins', JSON.stringify(pins));
      await handle();
      expect(idsOf(await stream.take(2000))).toEqual(pins.map((pin) => pin.unique_id as string).toSorted());
    });

    test('filters by id and by category', async () => {
      const [byId, byCategory] = [
        await open(`?unique_id=${(await post()).toUpperCase()}`),
        await open('?category=art'),
      ];
      const art = await post({ category: 'art' });
      await handle();
      expect(idsOf(await byId.take(1))).toHaveLength(1);
      expect(idsOf(await byCategory.take(1))).toEqual([art]);
    });

    test('shows a key its own pins only, and goes on exactly after any event', async () => {
      const keys = { one: 'key-of-the-first-source', two: 'key-of-the-second-source' };
      const handled = () => streamOffsets(database, 'pins');
      const keyed = await openHarness({
        limits: { API_KEYS: [`one:${keys.one}`, `two:${keys.two}`, `one:${keys.one}-replaced`] },
        deps: {
          inlet: { append: async (records) => ({ durability: 'log', positions: await harness.log.append(records) }) },
          feedback: { handled, read: harness.log.read },
        },
      });
      leaving.push(keyed.close);
      const asks = (key: string) => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' });
      const listenTo = async (key: string, last?: string) => {
        const headers = last === undefined ? asks(key) : { ...asks(key), 'last-event-id': last };
        const stream = listen(await keyed.app.request('/feedback', { headers }));
        leaving.push(stream.leave);
        return stream;
      };
      const [one, two, open_] = [await listenTo(keys.one), await listenTo(keys.two), await open()];
      const posted: Record<string, string[]> = { one: [], two: [], none: [] };
      for (let n = 0; n < 12; n++) {
        const [pin, lines] = [somePin(), [somePin(), somePin()]];
        await keyed.post('/pin/', JSON.stringify(pin), asks(n % 2 === 0 ? keys.one : keys.two));
        await keyed.post('/pins', JSON.stringify(lines), asks(n % 2 === 0 ? `${keys.one}-replaced` : keys.two));
        posted[n % 2 === 0 ? 'one' : 'two']?.push(...[pin, ...lines].map((each) => String(each.unique_id)));
        posted.none?.push(await post());
      }
      await handle();
      const [ofOne, ofTwo] = [await one.take(18), await two.take(18)];
      expect(idsOf(ofOne)).toEqual(posted.one?.toSorted() ?? []);
      expect(idsOf(ofTwo)).toEqual(posted.two?.toSorted() ?? []);
      // Without keys an edge shows all.
      expect(idsOf(await open_.take(48))).toEqual(Object.values(posted).flat().toSorted());
      for (const cut of [0, 8, 16]) {
        const rest = ofOne.slice(cut + 1);
        const resumed = await (await listenTo(keys.one, ofOne[cut]?.id)).take(rest.length);
        expect(positionsOf(resumed)).toEqual(positionsOf(rest));
      }
      // Another key's place opens nothing of it.
      const [crossed] = await (await listenTo(keys.two, ofOne[0]?.id)).take(1);
      expect(posted.two).toContain(String(crossed?.data.unique_id));
    });

    test('ends when the edge drains', async () => {
      const drain = new AbortController();
      const stream = await open('', undefined, drain.signal);
      drain.abort();
      expect(await stream.ended()).toBe(true);
    });
  });
}

describe('GET /feedback', () => {
  const openAtOnce = (clock = systemClock) => {
    const counts = { polls: 0 };
    /** Handled as soon as it is in the log. */
    const handled = async () => {
      counts.polls++;
      const partitions = await harness.log.partitions();
      return new Map(partitions.flatMap(({ partition, end }) => (end === 0 ? [] : [[partition, end] as const])));
    };
    const read: Harness['log']['read'] = (...of) => harness.log.read(...of);
    let harness: Harness;
    return openHarness({ deps: { clock, feedback: { handled, read } } }).then((opened) => {
      harness = opened;
      return { harness, counts };
    });
  };

  test('a stream opened before the first pin goes on from there', async () => {
    const { harness } = await openAtOnce();
    const reader = ((await harness.app.request('/feedback')).body as ReadableStream<Uint8Array>).getReader();
    const id = /^id: (.*)$/m.exec(new TextDecoder().decode((await reader.read()).value))?.[1];
    await reader.cancel();
    const pin = somePin();
    await harness.post('/pin/', JSON.stringify(pin));
    const stream = listen(await harness.app.request('/feedback', { headers: { 'last-event-id': id ?? '' } }));
    expect((await stream.take(1))[0]?.data.unique_id).toBe(pin.unique_id);
    await stream.leave();
    await harness.close();
  });

  test('a client that takes nothing is given no more, and dropped after a while', async () => {
    let now = 1_000_000;
    const { harness, counts } = await openAtOnce({ now: () => now });
    const polls = async (more: number) => {
      const until = counts.polls + more;
      while (counts.polls < until) await Bun.sleep(20);
    };
    const stream = listen(await harness.app.request('/feedback'));
    for (let i = 0; i < 3; i++) {
      await harness.post('/pin/', JSON.stringify(somePin()));
      await polls(2);
    }
    now += 31_000;
    // Nobody is left to poll for.
    for (let before = -1; before !== counts.polls; await Bun.sleep(600)) before = counts.polls;
    expect(await stream.ended()).toBe(true);
    // The first chunk tells where it begins, the second the first pin.
    expect(await stream.take(1)).toHaveLength(1);
    await expect(stream.take(1)).rejects.toThrow('ended');
    await harness.close();
  });

  test('wrong requests, an absent Postgres and too many streams are told, and a HEAD leaves none open', async () => {
    const harness = await openHarness();
    const status = async (path: string, init?: RequestInit) => (await harness.app.request(path, init)).status;
    expect(await status('/feedback?field=title')).toBe(400);
    expect(await status('/feedback?unique_id=x')).toBe(400);
    expect(await status('/feedback', { headers: { 'last-event-id': 'x' } })).toBe(400);
    for (let i = 0; i < 60; i++) expect(await status('/feedback', { method: 'HEAD' })).toBe(200);
    const streams: Response[] = [];
    for (;;) {
      const response = await harness.app.request('/feedback');
      if (response.status !== 200) {
        expect(response.status).toBe(503);
        break;
      }
      streams.push(response);
    }
    expect(streams).toHaveLength(50);
    await streams.pop()?.body?.cancel();
    const again = await harness.app.request('/feedback');
    expect(again.status).toBe(200);
    for (const stream of [...streams, again]) await stream.body?.cancel();
    await harness.close();

    const handled = () => Promise.reject(new PinflowError('postgres_unavailable', 'away', { retryable: true }));
    const away = await openHarness({ deps: { feedback: { handled, read: async () => [] } } });
    expect((await away.app.request('/feedback')).status).toBe(503);
    await away.close();
  });
});
