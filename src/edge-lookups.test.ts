import { expect, test } from 'bun:test';
import type { RunDetails } from './edge/deps.ts';
import { createEdgeLookups } from './edge-lookups.ts';
import {
  pinLine,
  pinLines,
  putObject,
  type TestDatabase,
  useWorkshop,
  type Workshop,
} from './workers/clean-fixture.ts';

let postgres: TestDatabase;
let shop: Workshop;
useWorkshop((opened) => {
  ({ postgres, shop } = opened);
});

const runOf = (id: number): Promise<RunDetails | null> => {
  const { database } = postgres;
  const unused = async (): Promise<never> => {
    throw new Error('no log is asked for a run');
  };
  const log = { kind: 'none', topic: 'pins' } as never;
  return createEdgeLookups({ log, database, queries: database, embeddedPostgres: true, openDeadLetters: unused }).run(
    id,
  );
};

test('a run says what became of each object, also where another run went over it since', async () => {
  await putObject(shop.store, 0, 0, [...pinLines(0, 9), 'no pin']);
  const { key } = await putObject(shop.store, 0, 10, [pinLine(10)]);
  await shop.store.put(key, Buffer.from('damaged'), { ifAbsent: false });
  const cleaner = shop.cleaner();
  const first = await cleaner.runNow('manual');
  const again = await cleaner.runNow('rebuild');
  for (const { id } of [first, again]) {
    const found = await runOf(id as number);
    expect(found).toMatchObject({ run: { id }, truncated: false });
    expect(found?.objects).toMatchObject([
      { store: 'embedded', status: 'done', pins: 9, rejects: 1, reason: null },
      { key, store: 'embedded', status: 'rejected', pins: 0, reason: expect.stringContaining('SHA-256') },
    ]);
  }
  expect(await runOf(10 ** 9)).toBeNull();
});
