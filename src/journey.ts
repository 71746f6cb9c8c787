import type { PinRow, PinStore } from './db/pin-store/pin-store.ts';
import { objectOf } from './db/postgres/ledger.ts';
import type { Database } from './db/postgres/open.ts';
import { getSpeedPin } from './db/postgres/speed-view.ts';
import type { Journey, View } from './edge/deps.ts';
import { messageOf } from './errors.ts';
import type { PinLog } from './log/log.ts';
import { STREAM_GROUP } from './log/names.ts';
import { partitionOf } from './log/partitioner.ts';
import type { Position } from './pin/pin.ts';

/** A store that takes longer than this for one row is reported as unavailable, so that the others' answer is not lost. */
const ASK_MS = 3000;

const ask = async <T>(question: Promise<T | null>): Promise<View<T>> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ASK_MS} ms`)), ASK_MS);
  });
  try {
    const row = await Promise.race([question, late]);
    return row === null ? { state: 'absent' } : { state: 'present', row };
  } catch (error) {
    return { state: 'unavailable', reason: messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
};

const newestPosition = (views: readonly View<PinRow>[]): Position | null => {
  const rows = views.flatMap((view) => (view.state === 'present' ? view.row : []));
  const newest = rows.reduce<PinRow | null>(
    (a, b) => (a === null || b.writeTimestamp > a.writeTimestamp ? b : a),
    null,
  );
  return newest?.position ?? null;
};

/** Records of the log looked through for a pin no view has yet: as far as the speed layer lags in ordinary times. */
const TAIL_RECORDS = 10_000;

/** The newest record of a key that the speed view has not handled yet. */
const findInTail = async (log: PinLog, uniqueId: string): Promise<Position | null> => {
  const partitions = await log.partitions();
  const partition = partitionOf(uniqueId, partitions.length);
  const state = partitions.find((p) => p.partition === partition);
  if (state === undefined) return null;
  const offset = (await log.committed(STREAM_GROUP)).get(partition) ?? state.start;
  if (offset >= state.end) return null;
  const records = await log.read({ partition, offset }, TAIL_RECORDS);
  return records.findLast((record) => record.key === uniqueId) ?? null;
};

type Deps = { readonly log: PinLog; readonly database: Database; readonly pinStores: readonly PinStore[] };

/** Asks every store at once where one pin stands; a store that is away does not hide what the others know. */
export const createJourney =
  ({ log, database, pinStores }: Deps) =>
  async (uniqueId: string): Promise<Journey> => {
    const [tail, speed, ...batch] = await Promise.all([
      ask(findInTail(log, uniqueId)),
      ask(getSpeedPin(database, uniqueId)),
      ...pinStores.map(async (store) => ({ store: store.name, view: await ask(store.get(uniqueId)) })),
    ]);
    const position = newestPosition([speed, ...batch.map((b) => b.view)]);
    const archive = position === null ? ({ state: 'absent' } as const) : await ask(objectOf(database, position));
    const logged: View<Position> =
      tail.state !== 'present' && position !== null ? { state: 'present', row: position } : tail;
    return { uniqueId, log: logged, speed, batch, archive };
  };
