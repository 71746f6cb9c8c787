import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { somePin } from '../../src/edge/fixture.ts';
import { freshName } from '../servers/fresh.ts';
import { freePorts } from '../servers/install.ts';
import { type OwnServer, ownServer, testServer } from '../servers/servers.ts';
import { recordsOf } from './log-records.ts';
import { eventually, type Running, startProgram } from './program.ts';

/** The real program on a real Kafka that is not there yet, hangs, and comes back: every post is a 2xx, and every pin arrives. */
setDefaultTimeout(300_000);
const SETTLE_MS = 120_000;

const shared = await testServer('kafka');
const isOurs = 'from' in shared && shared.from === 'packages';
if (!('skip' in shared) && !isOurs) console.warn('skipped: an outage needs a broker of our own');

type Posted = { readonly ids: readonly string[]; readonly durability: string | null; readonly position: string | null };

const postOne = async ({ url }: Running): Promise<Posted> => {
  const pin = somePin();
  const response = await fetch(`${url}/pin/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(pin),
  });
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  const { headers } = response;
  const [durability, position] = [headers.get('x-pin-durability'), headers.get('x-pin-position')];
  return { ids: [pin.unique_id as string], durability, position };
};

const postMany = async ({ url }: Running, count: number): Promise<Posted> => {
  const pins = Array.from({ length: count }, () => somePin());
  const response = await fetch(`${url}/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: pins.map((pin) => JSON.stringify(pin)).join('\n'),
  });
  const { outcomes } = (await response.json()) as { outcomes: readonly { position: string | null }[] };
  expect([response.status, outcomes.length]).toEqual([200, count]);
  return {
    ids: pins.map((pin) => pin.unique_id as string),
    durability: response.headers.get('x-pin-durability'),
    position: outcomes.find(({ position }) => position !== null)?.position ?? null,
  };
};

const inSpool = async ({ url }: Running): Promise<number> => {
  const page = await (await fetch(`${url}/metrics`)).text();
  return Number(/^pinflow_spool_records (\d+)/m.exec(page)?.[1] ?? Number.NaN);
};

describe.skipIf(!isOurs)('an edge whose broker fails', () => {
  const dir = mkdtempSync(join(tmpdir(), 'pinflow-spool-e2e-'));
  let program: Running | undefined;
  let broker: OwnServer | undefined;

  afterAll(async () => {
    await program?.kill('SIGKILL');
    if (broker !== undefined) {
      process.kill(broker.pid, 'SIGCONT');
      await broker.stop();
    }
    rmSync(dir, { recursive: true, force: true });
  });

  test('answers 2xx from the spool, and has every pin in Kafka when it is back', async () => {
    const [port = 0] = await freePorts(1);
    const settings = {
      DATA_DIR: dir,
      KAFKA_BROKERS: `127.0.0.1:${port}`,
      PIN_TOPIC: freshName('pins'),
      SPOOL_DEADLINE_MS: '1000',
    };
    const posted: Posted[] = [];
    /** All of it in the spool. */
    const postSpooled = async (edge: Running) => {
      const now = [await postOne(edge), await postOne(edge), await postMany(edge, 500), await postOne(edge)];
      for (const { durability, position } of now) expect([durability, position]).toEqual(['spool', null]);
      posted.push(...now);
    };
    const postUntil = (edge: Running, durability: string) =>
      eventually(`a pin is answered as durable by ${durability}`, SETTLE_MS, async () => {
        const one = await postOne(edge);
        posted.push(one);
        return one.durability === durability ? one : null;
      });

    program = await startProgram(settings, ['edge']);
    await postSpooled(program);
    broker = await ownServer('kafka', port);
    expect((await postUntil(program, 'broker')).position).toMatch(/^\d\/\d+$/);

    // A signal is not waited for: the broker's threads may still answer a request or two before all of them stand.
    process.kill(broker.pid, 'SIGSTOP');
    await postUntil(program, 'spool');
    await postSpooled(program);
    await program.kill('SIGKILL');
    program = await startProgram(settings, ['edge']);
    expect(await inSpool(program)).toBeGreaterThanOrEqual(503);
    await postSpooled(program);

    process.kill(broker.pid, 'SIGCONT');
    await postUntil(program, 'broker');
    const { ids: bulk } = await postMany(program, 100);
    const edge = program;
    await eventually('the spool is empty', SETTLE_MS, async () => ((await inSpool(edge)) === 0 ? true : null));
    const ids = [...posted.flatMap((one) => one.ids), ...bulk];
    const inKafka = new Set((await recordsOf(settings)).map(({ key }) => key ?? ''));
    expect(ids.filter((id) => !inKafka.has(id))).toEqual([]);
    expect(inKafka.size).toBe(ids.length);
    expect(await program.kill('SIGTERM')).toBe(0);
  });
});
