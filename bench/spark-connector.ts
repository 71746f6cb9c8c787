import { join } from 'node:path';
import type { FileSink } from 'bun';

/** The Java driver hears of a new keyspace some time after it was made, milliseconds; not counted. */
const SCHEMA_WAIT_MS = 3000;

/** PySpark with Spark's Cassandra connector as a peer: one session, so that it is warm after its first write. */
export type SparkConnector = {
  /** @returns seconds from the first file read to the last row written */
  readonly write: (keyspace: string, options: Readonly<Record<string, string>>) => Promise<number>;
  readonly close: () => Promise<void>;
};

/** Null without `PYSPARK` and `SPARK_CASSANDRA_JARS`. @param folder holds pins/ @param contactPoint host:port */
export const openSparkConnector = async (folder: string, contactPoint: string): Promise<SparkConnector | null> => {
  const { PYSPARK: python, SPARK_CASSANDRA_JARS: jars } = process.env;
  if (python === undefined || jars === undefined) return null;
  const [host = '', port = '9042'] = contactPoint.split(':');
  const script = join(import.meta.dir, 'cassandra-spark.py');
  const child = Bun.spawn([python, script, folder, jars, host, port], {
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: process.env.BENCH_VERBOSE === undefined ? 'ignore' : 'inherit',
  });
  const answers = readLines(child.stdout);
  const answer = async <T>(): Promise<T> => {
    const { value, done } = await answers.next();
    if (done) throw new Error('PySpark ended: set BENCH_VERBOSE to see why');
    return JSON.parse(value) as T;
  };
  const { start } = await answer<{ readonly start: number }>();
  console.log(`Spark's connector: ${start.toFixed(1)} s of start-up, not counted`);
  return {
    write: async (keyspace, options) => {
      await Bun.sleep(SCHEMA_WAIT_MS);
      (child.stdin as FileSink).write(`${JSON.stringify({ keyspace, options })}\n`);
      await (child.stdin as FileSink).flush();
      return (await answer<{ readonly seconds: number }>()).seconds;
    },
    close: async () => {
      await (child.stdin as FileSink).end();
      await child.exited;
    },
  };
};

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    yield* lines.filter((line) => line.startsWith('{'));
  }
  return undefined;
}
