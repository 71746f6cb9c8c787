import { parseArgs } from 'node:util';
import { startEdgeServer } from './edge-server.ts';
import { type FuzzReport, fuzz, overload } from './fuzz.ts';

/** `bun test/fuzz/main.ts --seconds 3600`: an hour of hostile requests; `--seeds N --from M` for some of them. Exit 1 if one is not answered as documented. */
const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: 'Infinity' },
    from: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '60' },
  },
});

const MEBI = 1024 * 1024;
const SHOWN_PROBLEMS = 20;

const tell = (what: string, { cases, answers, highestRssBytes, problems }: FuzzReport) => {
  const kinds = [...answers].sort().map(([status, count]) => `${status}: ${count}`);
  process.stdout.write(
    `${what}: ${cases} exchanges, ${kinds.join(', ')}; at most ${Math.round(highestRssBytes / MEBI)} MiB resident\n`,
  );
  for (const problem of problems.slice(0, SHOWN_PROBLEMS)) process.stdout.write(`FAIL ${problem}\n`);
  return problems.length === 0;
};

const server = await startEdgeServer();
const wasWell = tell('cases', await fuzz(server, Number(values.from), Number(values.seeds), Number(values.seconds)));
const isWell = tell('overload', await overload(server));
await server.close();
process.exit(wasWell && isWell ? 0 : 1);
