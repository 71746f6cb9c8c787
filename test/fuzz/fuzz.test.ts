import { afterAll, beforeAll, expect, test } from 'bun:test';
import { KINDS } from './cases.ts';
import { type EdgeServer, startEdgeServer } from './edge-server.ts';
import { fuzz, overload } from './fuzz.ts';

/** Of each kind; `bun test/fuzz/main.ts` does as many as one has time for. */
const ROUNDS = 12;
const LONG_MS = 120_000;

let server: EdgeServer;
beforeAll(async () => {
  server = await startEdgeServer();
}, LONG_MS);
afterAll(() => server.close());

test(
  'hostile requests of every kind get a documented answer or an end, and never a hang',
  async () => {
    const { problems, cases, answers } = await fuzz(server, 0, ROUNDS * KINDS.length, Number.POSITIVE_INFINITY);
    expect(problems).toEqual([]);
    expect(cases).toBe(ROUNDS * KINDS.length);
    for (const status of ['200', '400', '408', '413', '415', '422']) expect(answers.get(status)).toBeGreaterThan(0);
  },
  LONG_MS,
);

test(
  'ten times the bytes it may hold: what it does not take it refuses with 503, and its memory stays bounded',
  async () => {
    const { problems, answers } = await overload(server);
    expect(problems).toEqual([]);
    expect(answers.get('503')).toBeGreaterThan(0);
    expect(answers.get('200')).toBeGreaterThan(0);
  },
  LONG_MS,
);
