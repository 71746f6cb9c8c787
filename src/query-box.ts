import type { QueryResult } from './db/pin-store/pin-store.ts';
import { askPostgres } from './db/postgres/ask.ts';
import type { Database } from './db/postgres/open.ts';
import type { EdgeDeps } from './edge/deps.ts';
import { PinflowError } from './errors.ts';
import * as childFile from './query-child.ts' with { type: 'file' };
import type { ChildAnswer, ChildQuestion } from './query-child.ts';

/** Rows of an answer: what a person looks through. */
const MAX_ROWS = 500;
/** Milliseconds a statement may take; longer questions are for `query` and psql. */
const TIMEOUT_MS = 10_000;
/** About five seconds of the embedded Postgres on a laptop, which nothing can interrupt; 30 s and its thread is replaced. */
const EMBEDDED_MAX_COST = 400_000;
/** Bytes of a child's answer; 500 rows of a few KB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

const CHILD = (childFile as unknown as { readonly default: string }).default;

const refuse = (message: string) => new PinflowError('query', message);

const readAnswer = async (stream: ReadableStream<Uint8Array>): Promise<string> => {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.byteLength;
    if (bytes > MAX_ANSWER_BYTES) throw refuse('the answer is too large: ask for fewer columns or rows.');
    text += decoder.decode(chunk, { stream: true });
  }
  return text;
};

/** The batch view is asked in a process of its own: see query-child.ts. It inherits the environment, so it has the same settings. */
const askBatch = async (sql: string, timeoutMs: number): Promise<QueryResult> => {
  const question: ChildQuestion = { sql, limit: MAX_ROWS };
  const child = Bun.spawn([process.execPath, CHILD], {
    stdin: Buffer.from(JSON.stringify(question)),
    stdout: 'pipe',
    stderr: 'ignore',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  try {
    const text = await readAnswer(child.stdout);
    if ((await child.exited) !== 0)
      throw refuse(
        `no answer within ${timeoutMs / 1000} s: narrow it with WHERE, or use \`query\` for long questions.`,
      );
    const answer = JSON.parse(text) as ChildAnswer;
    if ('error' in answer) throw refuse(answer.error);
    return answer;
  } finally {
    child.kill('SIGKILL');
  }
};

type Options = {
  readonly database: Pick<Database, 'sql'>;
  /** Whether Postgres is the embedded one, which knows no time limit. */
  readonly embedded: boolean;
  /** (Default: 10,000) */
  readonly timeoutMs?: number;
};

export const createQueryBox =
  ({ database, embedded, timeoutMs = TIMEOUT_MS }: Options): EdgeDeps['query'] =>
  (view, sql) =>
    view === 'batch'
      ? askBatch(sql, timeoutMs)
      : askPostgres(database, sql, { rows: MAX_ROWS, timeoutMs, maxCost: embedded ? EMBEDDED_MAX_COST : null });
