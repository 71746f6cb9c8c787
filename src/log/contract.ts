import { describe, expect, test } from 'bun:test';
import { isPinflowError } from '../errors.ts';
import type { Position } from '../pin/pin.ts';
import type { ConsumeOptions, Consumer, LogBatch, LogRecord, NewRecord, PinLog } from './log.ts';
import { partitionOf } from './partitioner.ts';

/** What an adapter cannot do, it says here; the suite skips exactly that. */
export type LogSupports = {
  /** `lastTimestamp` answers; otherwise it is always null. */
  readonly lastTimestamp: boolean;
};

export type LogFixture = {
  readonly log: PinLog;
  /** Opens the same topic once more, as another process would; what is open already stays open. */
  readonly reopen: () => Promise<PinLog>;
  /** Removes what the test left. Logs opened by `open` and `reopen` that are still open are closed first. */
  readonly cleanup: () => Promise<void>;
};

/** Opens a new, empty topic. Member sessions should be as short as the adapter allows. */
export type OpenFixture = (options: { readonly partitions: number }) => Promise<LogFixture>;

/** Generous: a second member joining a group stalls both for about 5 s on a real broker. */
const DEADLINE_MS = 45_000;
const TEST_TIMEOUT_MS = 120_000;
const POLL_MS = 10;

/** Waits until `condition` holds. @throws after {@link DEADLINE_MS}, saying what did not come */
export const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not happen within ${DEADLINE_MS} ms: ${what}`);
    await Bun.sleep(POLL_MS);
  }
};

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** A record whose value is `value` as text. */
export const recordOf = (key: string, value: string): NewRecord => ({ key, value: utf8.encode(value) });

const manyOf = (count: number, prefix = 'r'): readonly NewRecord[] =>
  Array.from({ length: count }, (_, i) => recordOf(`key-${i}`, `${prefix}-${i}`));

const place = ({ partition, offset }: Position) => `${partition}/${offset}`;
const placesOf = (positions: readonly Position[]) => positions.map(place).sort();

/** A consumer that keeps what it is given; `member.owned` follows `assigned` and `revoked`. */
export type Member = {
  readonly consumer: Consumer;
  readonly records: LogRecord[];
  readonly batches: LogBatch[];
  readonly owned: Set<number>;
  /** Every partition ever taken from it. */
  readonly lost: Set<number>;
  /** The next offset to commit of each partition, as read. */
  readonly next: Map<number, number>;
};

type MemberOptions = Partial<Omit<ConsumeOptions, 'handler'>> & {
  /** (Default: null for all.) */
  readonly startAt?: (partition: number) => number | null;
  readonly onBatch?: (batch: LogBatch, member: Member) => Promise<void> | void;
  /** The test expects `done` to be rejected; otherwise that is printed, as the test then only sees records missing. */
  readonly mayFail?: boolean;
};

/** Joins `group` (default `g`) with a member that records all. */
export const join = (log: PinLog, options: MemberOptions = {}): Member => {
  const { startAt = () => null, onBatch, group = 'g', maxRecords = 100, maxBytes = 1 << 20 } = options;
  const seen = { records: [] as LogRecord[], batches: [] as LogBatch[], owned: new Set<number>() };
  const handler: ConsumeOptions['handler'] = {
    assigned: async (partitions) => {
      for (const partition of partitions) member.owned.add(partition);
      return new Map(partitions.map((partition) => [partition, startAt(partition)]));
    },
    batch: async (batch) => {
      member.batches.push(batch);
      member.records.push(...batch.records);
      member.next.set(batch.partition, (batch.records.at(-1)?.offset ?? -1) + 1);
      await onBatch?.(batch, member);
    },
    revoked: async (partitions) => {
      for (const partition of partitions) {
        member.owned.delete(partition);
        member.lost.add(partition);
      }
    },
  };
  const consumer = log.consume({ group, maxRecords, maxBytes, handler });
  consumer.done.catch((error: unknown) => {
    if (!options.mayFail) console.error('a consumer of the contract suite failed', error);
  });
  const member: Member = { consumer, ...seen, lost: new Set(), next: new Map() };
  return member;
};

const withLog =
  (open: OpenFixture, partitions: number, body: (fixture: LogFixture) => Promise<void>) => async (): Promise<void> => {
    const fixture = await open({ partitions });
    try {
      await body(fixture);
    } finally {
      await fixture.cleanup();
    }
  };

type Suite = {
  /** A test over a new topic. */
  readonly it: (name: string, partitions: number, body: (fixture: LogFixture) => Promise<void>) => void;
};

const byPartition = (records: readonly LogRecord[]): ReadonlyMap<number, readonly LogRecord[]> =>
  Map.groupBy(records, (record) => record.partition);

const commitAll = async (member: Member) => {
  for (const [partition, next] of member.next) await member.consumer.commit(partition, next);
};

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'no error';
  } catch (error) {
    return isPinflowError(error) ? error.code : `not a PinflowError: ${String(error)}`;
  }
};

const appendCases = ({ it }: Suite) => {
  it('gives each record the next offset of its partition, in the order given', 3, async ({ log }) => {
    const first = await log.append(manyOf(50));
    const second = await log.append(manyOf(50));
    const next = [0, 0, 0];
    for (const { partition, offset } of [...first, ...second]) {
      expect(offset).toBe(next[partition] as number);
      next[partition] = offset + 1;
    }
    expect(await log.partitions()).toEqual(next.map((end, partition) => ({ partition, start: 0, end })));
  });

  it('puts a key where Kafka puts it', 5, async ({ log }) => {
    const records = [...manyOf(100), recordOf('', 'empty key'), recordOf('ключ-🔑', 'not ASCII')];
    const positions = await log.append(records);
    expect(positions.map((p) => p.partition)).toEqual(records.map((r) => partitionOf(r.key, 5)));
  });

  it('appends nothing for no records', 1, async ({ log }) => {
    expect(await log.append([])).toEqual([]);
    expect(await log.partitions()).toEqual([{ partition: 0, start: 0, end: 0 }]);
  });

  it('gives each of many concurrent calls its own positions', 3, async ({ log }) => {
    const calls = Array.from({ length: 200 }, (_, i) =>
      Array.from({ length: 1 + (i % 3) }, (_, j) => recordOf(`k${i}`, `${i}:${j}`)),
    );
    const answers = await Promise.all(calls.map((records) => log.append(records)));
    for (const [i, positions] of answers.entries()) {
      expect(positions.length).toBe(calls[i]?.length as number);
      for (const [j, position] of positions.entries()) {
        if (i % 20 !== 0) continue;
        const [record] = await log.read(position, 1);
        expect(text.decode(record?.value)).toBe(`${i}:${j}`);
      }
    }
    expect(new Set(answers.flat().map(place)).size).toBe(answers.flat().length);
  });

  it('takes a bulk of 20,000 records in one call', 3, async ({ log }) => {
    const positions = await log.append(manyOf(20_000));
    expect(new Set(positions.map(place)).size).toBe(20_000);
    const ends = (await log.partitions()).map((p) => p.end);
    expect(ends.reduce((a, b) => a + b, 0)).toBe(20_000);
  });

  it('refuses an append once it is closed, and closes twice', 1, async ({ log }) => {
    await log.close();
    await log.close();
    expect(await codeOf(log.append(manyOf(1)))).toBe('log_unavailable');
  });
};

const oddRecords = (): readonly NewRecord[] => [
  { key: 'plain', value: utf8.encode('{"a":1}') },
  { key: 'empty', value: new Uint8Array(0) },
  { key: 'nul', value: new Uint8Array([0, 1, 0, 255, 254, 0]) },
  { key: 'large', value: new Uint8Array(1024 * 1024).map((_, i) => (i * 31) & 255) },
  { key: 'ключ-🔑', value: utf8.encode('é\u0000🔑'), headers: { stage: 'stream', 'x-é': 'ü🔑', empty: '' } },
];

const readCases = ({ it }: Suite, supports: LogSupports) => {
  it('gives back key, value and headers byte for byte, by read and by consume', 2, async ({ log }) => {
    const before = Date.now();
    const records = oddRecords();
    const positions = await log.append(records);
    const member = join(log);
    await until('all are consumed', () => member.records.length === records.length);
    for (const [i, position] of positions.entries()) {
      const [read] = await log.read(position, 1);
      const consumed = member.records.find((r) => place(r) === place(position));
      for (const record of [read, consumed]) {
        expect(record?.key).toBe(records[i]?.key as string);
        expect(Buffer.compare(record?.value as Uint8Array, records[i]?.value as Uint8Array)).toBe(0);
        expect(record?.headers).toEqual(records[i]?.headers ?? {});
        expect(record?.timestamp).toBeWithin(before - 1000, Date.now() + 1000);
      }
    }
    await member.consumer.close();
  });

  it('reads from an offset on, up to the limit, and nothing at the end', 1, async ({ log }) => {
    await log.append(manyOf(10));
    const read = await log.read({ partition: 0, offset: 4 }, 3);
    expect(read.map((r) => r.offset)).toEqual([4, 5, 6]);
    expect((await log.read({ partition: 0, offset: 8 }, 100)).map((r) => r.offset)).toEqual([8, 9]);
    expect(await log.read({ partition: 0, offset: 10 }, 5)).toEqual([]);
  });

  it('knows the newest timestamp, or says null', 2, async ({ log }) => {
    expect(await log.lastTimestamp()).toBeNull();
    const positions = await log.append(manyOf(5));
    const stamps = await Promise.all(positions.map(async (p) => (await log.read(p, 1))[0]?.timestamp ?? 0));
    expect(await log.lastTimestamp()).toBe(supports.lastTimestamp ? Math.max(...stamps) : null);
  });

  it('keeps everything across a restart, and counts on', 3, async ({ log, reopen }) => {
    const positions = await log.append(manyOf(30));
    await log.close();
    const again = await reopen();
    for (const [i, position] of positions.entries()) {
      expect(text.decode((await again.read(position, 1))[0]?.value)).toBe(`r-${i}`);
    }
    const more = await again.append(manyOf(30));
    const last = new Map(positions.map((p) => [p.partition, p.offset]));
    for (const p of more.filter((m, i) => more.findIndex((o) => o.partition === m.partition) === i)) {
      expect(p.offset).toBe((last.get(p.partition) ?? -1) + 1);
    }
  });
};

const consumeCases = ({ it }: Suite) => {
  it('delivers everything once, in order, from the earliest record', 3, async ({ log }) => {
    const positions = [...(await log.append(manyOf(300)))];
    const member = join(log);
    await until('the first 300', () => member.records.length >= 300);
    positions.push(...(await log.append(manyOf(300, 'later'))));
    await until('the later 300', () => member.records.length >= 600);
    expect(placesOf(member.records)).toEqual(placesOf(positions));
    for (const records of byPartition(member.records).values()) {
      expect(records.map((r) => r.offset)).toEqual(records.map((_, i) => i));
    }
    expect([...member.owned].sort()).toEqual([0, 1, 2]);
    await member.consumer.close();
    await member.consumer.done;
  });

  it('keeps to maxRecords and maxBytes, but delivers a single larger record', 1, async ({ log }) => {
    await log.append([
      ...manyOf(25),
      ...Array.from({ length: 4 }, (_, i) => ({ key: `big-${i}`, value: new Uint8Array(4000) })),
      { key: 'huge', value: new Uint8Array(50_000) },
      ...manyOf(3),
    ]);
    const member = join(log, { maxRecords: 10, maxBytes: 10_000 });
    await until('all 33', () => member.records.length === 33);
    for (const { records } of member.batches) {
      expect(records.length).toBeWithin(1, 11);
      const bytes = records.reduce((sum, r) => sum + r.value.length, 0);
      if (records.length > 1) expect(bytes).toBeLessThanOrEqual(10_000);
    }
    expect(member.records.map((r) => r.offset)).toEqual(Array.from({ length: 33 }, (_, i) => i));
    await member.consumer.close();
  });

  it('tells the high watermark', 1, async ({ log }) => {
    await log.append(manyOf(30));
    const member = join(log, { maxRecords: 10 });
    await until('all 30', () => member.records.length === 30);
    expect(member.batches.every((b) => b.highWatermark === 30)).toBe(true);
    await member.consumer.close();
  });

  it('starts at the offsets that `assigned` answers, before the committed ones', 2, async ({ log }) => {
    await log.append(manyOf(100));
    const first = join(log);
    await until('all 100', () => first.records.length === 100);
    await commitAll(first);
    await first.consumer.close();
    const ends = new Map((await log.partitions()).map((p) => [p.partition, p.end]));
    const member = join(log, { startAt: (partition) => (partition === 0 ? 3 : null) });
    await until('partition 0 from 3 on', () => member.next.get(0) === ends.get(0));
    expect(member.records.find((r) => r.partition === 0)?.offset).toBe(3);
    expect(member.records.some((r) => r.partition === 1)).toBe(false);
    await member.consumer.close();
  });

  it('seeks back and forth', 1, async ({ log }) => {
    await log.append(manyOf(20));
    const member = join(log);
    await until('all 20', () => member.records.length === 20);
    member.consumer.seek(0, 15);
    await until('the last 5 again', () => member.records.length === 25);
    expect(member.records.slice(20).map((r) => r.offset)).toEqual([15, 16, 17, 18, 19]);
    await member.consumer.close();
  });

  it('does not go on after a batch that sought elsewhere', 1, async ({ log }) => {
    await log.append(manyOf(20));
    let sought = false;
    const member = join(log, {
      maxRecords: 5,
      onBatch: (batch, { consumer }) => {
        if (sought) return;
        sought = true;
        consumer.seek(batch.partition, 2);
      },
    });
    await until('the end', () => member.next.get(0) === 20);
    expect(member.batches[1]?.records[0]?.offset).toBe(2);
    await member.consumer.close();
  });

  it('holds the next batch of a partition until the last one settled', 2, async ({ log }) => {
    const running = new Map<number, number>();
    let overlaps = 0;
    const member = join(log, {
      maxRecords: 20,
      onBatch: async ({ partition }) => {
        const now = (running.get(partition) ?? 0) + 1;
        running.set(partition, now);
        if (now > 1) overlaps += 1;
        await Bun.sleep(5);
        running.set(partition, now - 1);
      },
    });
    for (let i = 0; i < 10; i++) await log.append(manyOf(40, `round-${i}`));
    await until('all 400', () => member.records.length >= 400);
    expect(overlaps).toBe(0);
    expect(member.records.length).toBe(400);
    await member.consumer.close();
  });

  it('a throw of the handler rejects `done` with it and lets the partitions go', 2, async ({ log }) => {
    await log.append(manyOf(20));
    const failing = join(log, {
      mayFail: true,
      onBatch: () => {
        throw new Error('the sink broke');
      },
    });
    await expect(failing.consumer.done).rejects.toThrow('the sink broke');
    const member = join(log);
    await until('the next member gets all', () => member.records.length >= 20);
    await member.consumer.close();
  });

  it('close waits for the batch that is being handled, and it may still commit', 1, async ({ log }) => {
    await log.append(manyOf(5));
    const gate = Promise.withResolvers<void>();
    let committed = false;
    const member = join(log, {
      onBatch: async (batch, { consumer, next }) => {
        await gate.promise;
        await consumer.commit(batch.partition, next.get(batch.partition) as number);
        committed = true;
      },
    });
    await until('the batch is there', () => member.batches.length === 1);
    const closing = member.consumer.close();
    gate.resolve();
    await closing;
    expect(committed).toBe(true);
    expect((await log.committed('g')).get(0)).toBe(5);
  });
};

const commitCases = ({ it }: Suite) => {
  it('goes on after the committed offset, also after a restart', 3, async ({ log, reopen }) => {
    await log.append(manyOf(90));
    const first = join(log);
    await until('all 90', () => first.records.length === 90);
    await commitAll(first);
    await first.consumer.close();
    expect(await log.committed('g')).toEqual(first.next);
    expect(await log.committed('another')).toEqual(new Map());
    await log.close();
    const again = await reopen();
    expect(await again.committed('g')).toEqual(first.next);
    const later = await again.append(manyOf(60, 'later'));
    const second = join(again);
    await until('the later 60', () => second.records.length >= 60);
    expect(placesOf(second.records)).toEqual(placesOf(later));
    await second.consumer.close();
  });

  it('what was not committed is delivered again', 1, async ({ log }) => {
    await log.append(manyOf(20));
    const first = join(log);
    await until('all 20', () => first.records.length === 20);
    await first.consumer.commit(0, 12);
    await first.consumer.close();
    const second = join(log);
    await until('the last 8', () => second.records.length === 8);
    expect(second.records[0]?.offset).toBe(12);
    await second.consumer.close();
  });

  it('groups do not know of each other', 2, async ({ log }) => {
    await log.append(manyOf(40));
    const members = ['one', 'two'].map((group) => join(log, { group }));
    for (const member of members) await until('all 40', () => member.records.length === 40);
    await Promise.all(members.map((member) => member.consumer.close()));
  });

  it('a commit of a partition that is not this member’s is fenced', 1, async ({ log }) => {
    await log.append(manyOf(5));
    const member = join(log);
    await until('it is assigned', () => member.records.length === 5);
    expect(await codeOf(member.consumer.commit(7, 1))).toBe('fenced');
    await member.consumer.commit(0, 3);
    await member.consumer.close();
    expect(await codeOf(member.consumer.commit(0, 5))).toBe('fenced');
    expect((await log.committed('g')).get(0)).toBe(3);
  });
};

const sizesAre = (members: readonly Member[], sizes: readonly number[]) => {
  const all = members.flatMap((m) => [...m.owned]);
  const isCover = new Set(all).size === all.length && all.length === sizes.reduce((a, b) => a + b, 0);
  return (
    isCover &&
    members
      .map((m) => m.owned.size)
      .sort()
      .join() === [...sizes].sort().join()
  );
};

const groupCases = ({ it }: Suite) => {
  it('two members share the partitions; the one that stays takes over from the one that leaves', 4, async (fixture) => {
    const { log } = fixture;
    await log.append(manyOf(40));
    const commitEach: MemberOptions['onBatch'] = async ({ partition }, { consumer, next }) => {
      await consumer.commit(partition, next.get(partition) as number).catch((error: unknown) => {
        if (!isPinflowError(error, 'fenced')) throw error;
      });
    };
    const first = join(log, { onBatch: commitEach });
    await until('the first has all', () => first.owned.size === 4 && first.records.length === 40);
    const second = join(await fixture.reopen(), { onBatch: commitEach });
    await until('two each', () => sizesAre([first, second], [2, 2]));

    const later = await log.append(manyOf(200, 'later'));
    const seen = () => new Set([...first.records, ...second.records].map(place));
    await until('all later ones are seen', () => later.every((p) => seen().has(place(p))));
    expect(second.records.length).toBeGreaterThan(0);

    await second.consumer.close();
    await until('the first has all again', () => first.owned.size === 4);
    const last = await log.append(manyOf(40, 'last'));
    await until('the last are seen', () => last.every((p) => seen().has(place(p))));
    await first.consumer.close();
  });

  it('a member whose partitions were given to another cannot commit them', 2, async ({ log, reopen }) => {
    await log.append(manyOf(40));
    const first = join(log);
    await until('the first has all', () => first.owned.size === 2 && first.records.length === 40);
    const second = join(await reopen());
    await until('one each', () => sizesAre([first, second], [1, 1]));
    const [lost] = [...second.owned];
    expect(first.lost.has(lost as number)).toBe(true);
    expect(await codeOf(first.consumer.commit(lost as number, 1))).toBe('fenced');
    expect((await log.committed('g')).has(lost as number)).toBe(false);
    await second.consumer.close();
    await first.consumer.close();
  });

  it('a member too many waits without a partition', 1, async ({ log, reopen }) => {
    await log.append(manyOf(5));
    const members = [join(log), join(await reopen())];
    await until('one has it', () => sizesAre(members, [0, 1]));
    const owner = members.find((m) => m.owned.size === 1) as Member;
    await until('the owner read', () => owner.records.length >= 5);
    await owner.consumer.close();
    const other = members.find((m) => m !== owner) as Member;
    await until('the other takes over', () => other.owned.size === 1);
    await other.consumer.close();
  });
};

/**
 * What every log must do. Each test has a topic of its own.
 * @param name of the adapter
 */
export const logContract = (name: string, open: OpenFixture, supports: LogSupports): void => {
  const suite: Suite = {
    it: (title, partitions, body) => {
      test(title, withLog(open, partitions, body), TEST_TIMEOUT_MS);
    },
  };
  describe(`log contract: ${name}`, () => {
    appendCases(suite);
    readCases(suite, supports);
    consumeCases(suite);
    commitCases(suite);
    groupCases(suite);
  });
};
