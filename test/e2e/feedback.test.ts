import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { somePin } from '../../src/edge/fixture.ts';
import { freshDatabase, freshName } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { type Env, eventually, type Running, startProgram } from './program.ts';

/** Feedback of the real program, its stream worker behind it: on the embedded parts, and on Kafka and PostgreSQL. */
const TIMEOUT_MS = 180_000;
const SOON_MS = 60_000;
const PINS = 60;

const [kafka, postgres] = [await testServer('kafka'), await testServer('postgres')];
const missing = 'skip' in kafka || 'skip' in postgres;

type Verdict = Readonly<Record<string, unknown>> & { readonly unique_id: string; readonly clean: boolean | null };
type Event = { readonly id: string; readonly data: Verdict };

const engines = [
  {
    name: 'the embedded parts',
    skip: false,
    durability: 'log',
    open: async () => ({ env: {} as Env, close: async () => {} }),
  },
  {
    name: 'Kafka and PostgreSQL',
    skip: missing,
    durability: 'broker',
    open: async () => {
      if ('skip' in kafka || 'skip' in postgres) throw new Error('not here');
      const database = await freshDatabase(postgres.settings);
      const env = { ...kafka.settings, ...database.settings, PIN_TOPIC: freshName('feedback') } as Env;
      return { env, close: database.drop };
    },
  },
] as const;

/** Events of a stream until `enough`, or until it ends. */
const eventsOf = async (
  url: string,
  lastEventId: string,
  enough: (events: readonly Event[]) => boolean,
  headers: Readonly<Record<string, string>> = {},
) => {
  const response = await fetch(`${url}/feedback`, { headers: { ...headers, 'last-event-id': lastEventId } });
  expect(response.status).toBe(200);
  const events: Event[] = [];
  let [text, id] = ['', lastEventId];
  const decoder = new TextDecoder();
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    const blocks = (text + decoder.decode(chunk, { stream: true })).split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      id = /^id: (.*)$/m.exec(block)?.[1] ?? id;
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data !== undefined) events.push({ id, data: JSON.parse(data) as Verdict });
    }
    if (enough(events)) break;
  }
  return events;
};

for (const { name, skip, durability, open } of engines) {
  describe.skipIf(skip)(`feedback on ${name}`, () => {
    const dir = mkdtempSync(join(tmpdir(), 'pinflow-feedback-'));
    let env: Env;
    let close: () => Promise<void>;
    let program: Running;
    beforeAll(async () => {
      const opened = await open();
      close = opened.close;
      env = { ...opened.env, DATA_DIR: dir, CLEAN_CRON: 'off', FEEDBACK_WAIT_MS: '20000' };
      program = await startProgram(env);
    }, TIMEOUT_MS);
    afterAll(async () => {
      await program?.kill('SIGKILL');
      await close?.();
      rmSync(dir, { recursive: true, force: true });
    }, TIMEOUT_MS);

    const post = async (over: Readonly<Record<string, unknown>>, query = '') => {
      const body = JSON.stringify(somePin(over));
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${program.url}/pin/${query}`, { method: 'POST', headers, body });
      return { response, body: (await response.json()) as Verdict };
    };
    const ready = () =>
      eventually('every part ready', SOON_MS, async () => ((await fetch(`${program.url}/readyz`)).ok ? true : null));

    test(
      'a POST that waits has the feedback of its own pin, clean or not',
      async () => {
        await ready();
        const [clean, wrong] = await Promise.all([
          post({}, '?wait=feedback'),
          post({ follower_count: 'User Info Error' }, '?wait=feedback'),
        ]);
        expect([clean.response.status, wrong.response.status]).toEqual([200, 200]);
        expect(clean.response.headers.get('x-pin-durability')).toBe(durability);
        expect(clean.body).toMatchObject({
          clean: true,
          errors: [],
          position: clean.response.headers.get('x-pin-position'),
        });
        expect(wrong.body).toMatchObject({
          clean: false,
          errors: [{ field: 'follower_count', posted: 'User Info Error' }],
        });
      },
      TIMEOUT_MS,
    );

    test(
      'a stream goes on after kill -9 by its last id: every pin told, none twice',
      async () => {
        const first = await post({});
        const earlier = await eventsOf(program.url, '0:0,1:0,2:0', (events) => events.length >= 3);
        const before = earlier.map(({ data }) => data.unique_id);
        expect(before).toContain(first.body.unique_id);

        const posted = await Promise.all(Array.from({ length: PINS }, () => post({ title: null })));
        const last = earlier.at(-1)?.id ?? '';
        const some = await eventsOf(program.url, last, (events) => events.length >= PINS / 2);
        await program.kill('SIGKILL');
        program = await startProgram(env);
        await ready();
        const after = await post({}, '?wait=feedback');
        expect(after.response.status).toBe(200);
        const rest = await eventsOf(
          program.url,
          some.at(-1)?.id ?? '',
          (events) =>
            events.some(({ data }) => data.unique_id === after.body.unique_id) && some.length + events.length > PINS,
        );
        const told = [...some, ...rest].map(({ data }) => data.unique_id);
        const ids = [...posted.map(({ body }) => body.unique_id), after.body.unique_id];
        expect(told.toSorted()).toEqual(ids.toSorted());
        expect([...some, ...rest].filter(({ data }) => data.clean)).toHaveLength(1);
      },
      TIMEOUT_MS,
    );

    test(
      'with API_KEYS each key has the feedback and the errors of its own pins, from before a kill -9 too',
      async () => {
        await program.kill('SIGKILL');
        const keys = { one: 'key-of-the-first-source', two: 'key-of-the-second-source' };
        const keyed = {
          ...env,
          API_KEYS: Object.entries(keys)
            .map(([source, key]) => `${source}:${key}`)
            .join(','),
        };
        program = await startProgram(keyed);
        await ready();
        const asking = (key: string) => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' });
        const posted: Record<string, string[]> = { one: [], two: [] };
        const postAs = async (source: 'one' | 'two') => {
          const body = JSON.stringify(somePin({ title: 'No Title Data Available' }));
          const init = { method: 'POST', headers: asking(keys[source]), body };
          const response = await fetch(`${program.url}/pin/?wait=feedback`, init);
          expect(response.status).toBe(200);
          posted[source]?.push(((await response.json()) as Verdict).unique_id);
        };
        for (const source of ['one', 'two', 'two'] as const) await postAs(source);
        await program.kill('SIGKILL');
        program = await startProgram(keyed);
        await ready();
        for (const source of ['two', 'one'] as const) await postAs(source);
        for (const source of ['one', 'two'] as const) {
          const headers = asking(keys[source]);
          const told = await eventsOf(program.url, '0:0,1:0,2:0', (events) => events.length >= 2, headers);
          for (const { data } of told) expect(posted[source]).toContain(data.unique_id);
          const answer = await fetch(`${program.url}/errors`, { headers });
          const { pins } = (await answer.json()) as { pins: { unique_id: string }[] };
          expect(pins.map(({ unique_id }) => unique_id)).toEqual(posted[source]?.toReversed() ?? []);
        }
        await program.kill('SIGTERM');
        program = await startProgram(env);
        await ready();
      },
      TIMEOUT_MS,
    );

    test(
      'without a stream worker a POST that waits gets 202, and the pin is durable',
      async () => {
        await program.kill('SIGTERM');
        program = await startProgram({ ...env, WORKERS_STREAM: '0', FEEDBACK_WAIT_MS: '300' });
        const { response, body } = await post({}, '?wait=feedback');
        expect(response.status).toBe(202);
        expect(body).toMatchObject({ clean: null, reason: expect.stringContaining('300 ms') });
        expect(response.headers.get('x-pin-durability')).toBe(durability);
        await program.kill('SIGTERM');
        program = await startProgram(env);
        await ready();
        const place = String(body.position).split('/').map(Number);
        const [partition = 0, offset = 0] = place;
        const told = await eventsOf(program.url, `${partition}:${offset}`, (events) =>
          events.some(({ data }) => data.position === body.position),
        );
        expect(told.find(({ data }) => data.position === body.position)?.data).toMatchObject({
          unique_id: body.unique_id,
          clean: true,
        });
      },
      TIMEOUT_MS,
    );
  });
}
