import { createRandom } from '../sim/random.ts';
import { drawCase, goodPin, largeBulk } from './cases.ts';
import type { EdgeServer } from './edge-server.ts';
import { exchange } from './exchange.ts';
import { LIMITS, MAX_RSS_BYTES, OVERLOAD_BYTES } from './limits.ts';

export type FuzzReport = {
  readonly cases: number;
  /** How many answers there were of each status; `none` for connections that ended without. */
  readonly answers: ReadonlyMap<string, number>;
  readonly highestRssBytes: number;
  /** What was not as documented, with the seed that shows it. */
  readonly problems: readonly string[];
};

/** What the edge's table of errors has, and 505, which Bun's own parser gives to another version of HTTP. A 500 is none of them. */
const OTHERS = new Set([200, 204, 207, 503, 505, 507]);
const isDocumented = (status: number): boolean => OTHERS.has(status) || (status >= 400 && status < 500);

/** Many times the server's own limits: beyond it an exchange hangs, milliseconds. */
const HANG_MS = 30 * LIMITS.REQUEST_TIMEOUT_MS;
const AT_ONCE = 16;

const createReport = () => {
  const answers = new Map<string, number>();
  const problems: string[] = [];
  let [cases, highestRssBytes] = [0, 0];
  return {
    problems,
    count: (statuses: readonly number[]) => {
      cases++;
      for (const name of statuses.length === 0 ? ['none'] : statuses.map(String)) {
        answers.set(name, (answers.get(name) ?? 0) + 1);
      }
    },
    look: async (server: EdgeServer) => {
      highestRssBytes = Math.max(highestRssBytes, (await server.rssBytes()) ?? 0);
    },
    end: (): FuzzReport => {
      if (highestRssBytes > MAX_RSS_BYTES)
        problems.push(`its memory grew to ${highestRssBytes} bytes, more than ${MAX_RSS_BYTES}`);
      return { cases, answers, highestRssBytes, problems };
    },
  };
};

type Report = ReturnType<typeof createReport>;

const runCase = async (server: EdgeServer, seed: number, report: Report): Promise<void> => {
  const { kind, steps, answers, wanted } = drawCase(createRandom(seed), seed);
  const { statuses, end } = await exchange(server.port, steps, answers, HANG_MS);
  report.count(statuses);
  const tell = (what: string) => report.problems.push(`seed ${seed}, ${kind}: ${what}`);
  if (end === 'hung') tell(`neither an answer nor an end within ${HANG_MS} ms, after [${statuses}]`);
  const strange = statuses.find((status) => !isDocumented(status));
  if (strange !== undefined) tell(`answered ${strange}`);
  // A busy server may say so instead, and on a busy machine a body may come too late.
  const isBusy = statuses.length > 0 && statuses.every((status) => status === 503 || status === 408);
  if (wanted !== null && !isBusy && !Bun.deepEquals(statuses, wanted)) tell(`answered [${statuses}], not [${wanted}]`);
};

const checkAlive = async (server: EdgeServer, report: Report, after: string) => {
  if (!server.isAlive()) return void report.problems.push(`the server died ${after}`);
  const { statuses } = await exchange(server.port, [{ send: goodPin(createRandom(1)) }], 1, HANG_MS);
  if (statuses[0] !== 200) report.problems.push(`a good pin is answered [${statuses}] ${after}`);
};

/** Cases one seed after the other, some at a time, against one server. */
export const fuzz = async (server: EdgeServer, from: number, cases: number, seconds: number): Promise<FuzzReport> => {
  const report = createReport();
  const until = performance.now() + seconds * 1000;
  let next = from;
  const worker = async () => {
    while (next < from + cases && performance.now() < until && server.isAlive()) {
      await runCase(server, next++, report);
      await report.look(server);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  await checkAlive(server, report, `after the seeds ${from} to ${next - 1}`);
  return report.end();
};

/** Ten times the bytes the edge may hold, all at once: what it does not take it must refuse with 503. */
export const overload = async (server: EdgeServer): Promise<FuzzReport> => {
  const report = createReport();
  const body = largeBulk(createRandom(1));
  const watch = setInterval(() => void report.look(server), 20);
  const clients = Array.from({ length: Math.ceil(OVERLOAD_BYTES / body.length) }, async () => {
    const { statuses, end } = await exchange(server.port, [{ send: body }], 1, HANG_MS);
    report.count(statuses);
    if (end === 'hung') report.problems.push('a request under overload hangs');
    for (const status of statuses) {
      if (![200, 408, 503].includes(status)) report.problems.push(`answered ${status} under overload`);
    }
  });
  await Promise.all(clients);
  clearInterval(watch);
  await report.look(server);
  await checkAlive(server, report, 'after overload');
  return report.end();
};
