import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { somePin } from '../../src/edge/fixture.ts';
import { freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { testServer } from '../servers/servers.ts';
import { metricsOf, partsOf, untilReady } from './asking.ts';
import { recordsOf } from './log-records.ts';
import { type Env, eventually, type Running, runCommand, startProgram } from './program.ts';

/** Two edges of one machine on one port and one real Kafka, while clients connect anew for each pin; one is killed, the other drained. */
setDefaultTimeout(300_000);
const SETTLE_MS = 60_000;
const CLIENTS = 8;
const PINS_OF_BOTH = 400;
const PINS_BETWEEN = 200;
/** Between two tries of a client whom nobody answers any more, milliseconds. */
const RETRY_MS = 10;

const kafka = await testServer('kafka');
const isLinux = process.platform === 'linux';
if (!isLinux) console.warn('skipped: edges share a port on Linux only');

type Answer = {
  readonly status: number;
  readonly text: string;
  readonly durability: string | null;
  readonly position: string | null;
};

/** One pin on a new connection. @throws when the connection breaks */
const postAnew = async (url: string): Promise<Answer> => {
  const response = await fetch(`${url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify(somePin()),
  });
  const [durability, position] = [response.headers.get('x-pin-durability'), response.headers.get('x-pin-position')];
  return { status: response.status, text: await response.text(), durability, position };
};

/** Posts until it is stopped, past connections that break: those of a killed edge do. */
const startPosting = (url: string) => {
  const answers: Answer[] = [];
  const stopping = new AbortController();
  const client = async () => {
    while (!stopping.signal.aborted) {
      const answer = await postAnew(url).catch(() => null);
      if (answer === null) await Bun.sleep(RETRY_MS);
      else answers.push(answer);
    }
  };
  const done = Promise.all(Array.from({ length: CLIENTS }, client));
  const more = (pins: number) => {
    const wanted = answers.length + pins;
    return eventually(`${pins} more pins are answered`, SETTLE_MS, async () =>
      answers.length >= wanted ? true : null,
    );
  };
  const stop = async (): Promise<readonly Answer[]> => {
    stopping.abort();
    await done;
    return answers;
  };
  return { more, stop };
};

const takenBy = async (edge: Running): Promise<number> =>
  Number(/^pinflow_edge_pins_total\{outcome="accepted"\} (\d+)$/m.exec(await metricsOf(edge))?.[1] ?? Number.NaN);

describe.skipIf('skip' in kafka || !isLinux)('two edges on one port', () => {
  const dirs = Array.from({ length: 2 }, () => mkdtempSync(join(tmpdir(), 'pinflow-shared-port-')));
  const edges: Running[] = [];
  afterAll(async () => {
    for (const edge of edges) await edge.kill('SIGKILL');
    for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
  });

  test('both take pins; when one is killed and the other drained, Kafka has each acked pin exactly as acked', async () => {
    const [port = 0] = await freePorts(1);
    const url = `http://127.0.0.1:${port}`;
    const shared: Env = {
      ...(kafka.settings as Env),
      PIN_TOPIC: freshName('pins'),
      PORT: String(port),
      REUSE_PORT: 'true',
      METRICS_PORT: '0',
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      // Above what a busy broker takes: a pin in the spool of an edge that is killed comes to Kafka after its next start only.
      REQUEST_TIMEOUT_MS: '60000',
      SPOOL_DEADLINE_MS: '30000',
    };
    const settings = dirs.map((DATA_DIR): Env => ({ ...shared, DATA_DIR }));
    for (const env of settings) edges.push(await startProgram(env, ['edge'], /^metrics\s+(\S+)\/metrics/m));
    const [first, second] = edges as [Running, Running];
    for (const edge of edges) {
      await untilReady(edge);
      expect([...(await partsOf(edge)).keys()]).toEqual(['log (kafka)']);
      expect(edge.output()).toContain(`edge       ${url} `);
    }
    const third = await runCommand(settings[0] as Env, ['edge']);
    expect([third.code, third.stderr]).toEqual([1, expect.stringContaining(`is held by process ${first.pid}`)]);

    const answers = await Promise.all(Array.from({ length: PINS_OF_BOTH }, () => postAnew(url)));
    const taken = await Promise.all(edges.map(takenBy));
    expect(taken.map((pins) => pins > 0)).toEqual([true, true]);
    expect(taken.reduce((sum, pins) => sum + pins, 0)).toBe(PINS_OF_BOTH);

    const posting = startPosting(url);
    await posting.more(PINS_BETWEEN);
    await second.kill('SIGKILL');
    // Begun after it is gone: none of them may break.
    answers.push(...(await Promise.all(Array.from({ length: PINS_BETWEEN }, () => postAnew(url)))));
    await posting.more(PINS_BETWEEN);
    expect(await first.kill('SIGTERM')).toBe(0);
    answers.push(...(await posting.stop()));

    for (const { status, text, durability } of answers)
      expect([status, durability, text]).toEqual([200, 'broker', text]);
    const decoder = new TextDecoder();
    const inKafka = new Map(
      (await recordsOf(settings[0] as Env)).map(({ partition, offset, value }) => [
        `${partition}/${offset}`,
        decoder.decode(value),
      ]),
    );
    expect(answers.filter(({ position, text }) => inKafka.get(position ?? '') !== text)).toEqual([]);
    expect(new Set(answers.map(({ position }) => position)).size).toBe(answers.length);
  });
});
