import { Client, types } from 'cassandra-driver';
import { listManifest } from '../src/blob/archive.ts';
import { readArchiveText } from '../src/blob/archive-object.ts';
import { openBlobStore } from '../src/blob/open.ts';
import { readConfig } from '../src/config.ts';
import { toParams } from '../src/db/pin-store/cql-params.fixture.ts';
import { insertCql } from '../src/db/pin-store/cql-rows.ts';
import { eachOf } from '../src/db/pin-store/each-of.ts';
import { cleanLines } from '../src/workers/clean-lines.ts';

/**
 * The driver alone in a loop: the statement and the values our adapter sends, all of them in memory before the clock starts. Settings as for
 * pinflow. `bun bench/cassandra-bare.ts <rows a batch> <in flight> <first>`; one row a batch: plain inserts. The clock starts when the first so many rows are
 * written. Prints one JSON line.
 */
const [batchRows, inFlight, first] = process.argv.slice(2).map(Number) as [number, number, number];
const config = readConfig(process.env);

const readParams = async (): Promise<unknown[][]> => {
  const store = await openBlobStore(config);
  const params: unknown[][] = [];
  for await (const entry of listManifest(store, 0)) {
    const { rows } = await cleanLines(await readArchiveText(store, entry));
    for (const row of rows) params.push(toParams(row, 0));
  }
  await store.close();
  return params;
};

const all = await readParams();
const batches = Array.from({ length: Math.ceil(all.length / batchRows) }, (_, i) =>
  all.slice(i * batchRows, (i + 1) * batchRows),
);
const client = new Client({
  contactPoints: [...(config.CASSANDRA_CONTACT_POINTS ?? [])],
  localDataCenter: config.CASSANDRA_DATACENTER,
  encoding: { useBigIntAsLong: true },
  queryOptions: { consistency: types.consistencies.localQuorum },
});
await client.connect();
const query = insertCql(`${config.CQL_KEYSPACE}.userposts`);
const options = { prepare: true, isIdempotent: true, logged: false };
let written = 0;
let began = 0;
await eachOf(batches, inFlight, async (batch) => {
  if (batchRows === 1) await client.execute(query, batch[0], options);
  else {
    const queries = batch.map((params) => ({ query, params }));
    await client.batch(queries, options);
  }
  written += batch.length;
  if (began === 0 && written >= first) began = performance.now();
});
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }));
await client.shutdown();
