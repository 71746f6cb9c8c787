import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { type Difference, openIdLedger } from './reconcile-ids.ts';

const idOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
const found = fc.array(fc.record({ n: fc.nat(8), version: fc.integer({ min: 1, max: 3 }) }), { maxLength: 12 });
type Found = readonly { readonly n: number; readonly version: number }[];

const highest = (all: Found) => {
  const versions = new Map<string, number>();
  for (const { n, version } of all) versions.set(idOf(n), Math.max(version, versions.get(idOf(n)) ?? 0));
  return versions;
};

/** What one place should be told to differ in, by the definition. */
const expected = (master: Found, all: Found, isPartial: boolean): readonly Omit<Difference, 'place'>[] => {
  const [wanted, there] = [highest(master), highest(all)];
  return [...new Set([...wanted.keys(), ...there.keys()])].sort().flatMap((uniqueId) => {
    const [want, has] = [wanted.get(uniqueId), there.get(uniqueId)];
    if (has === undefined) return isPartial ? [] : { uniqueId, problem: 'missing' as const };
    if (want === undefined || has > want) return { uniqueId, problem: 'extra' as const };
    return has < want && !isPartial ? { uniqueId, problem: 'stale' as const } : [];
  });
};

test('places are compared with the first, by the highest version of each id', () => {
  fc.assert(
    fc.property(found, found, found, (archive, log, view) => {
      const ledger = openIdLedger([{ name: 'archive' }, { name: 'log', isPartial: true }, { name: 'view' }]);
      try {
        for (const [name, all] of Object.entries({ view, archive, log })) {
          ledger.record(name)(all.map(({ n, version }) => ({ uniqueId: idOf(n), writeTimestamp: version })));
        }
        const { counts, differences, examples } = ledger.compare();
        const inLog = expected(archive, log, true);
        const inView = expected(archive, view, false);
        expect(counts).toEqual({ archive: highest(archive).size, log: highest(log).size, view: highest(view).size });
        expect(differences).toEqual({ log: inLog.length, view: inView.length });
        const of = (name: string) =>
          examples.filter(({ place }) => place === name).map(({ uniqueId, problem }) => ({ uniqueId, problem }));
        expect(of('log')).toEqual([...inLog]);
        expect(of('view')).toEqual([...inView]);
      } finally {
        ledger.close();
      }
    }),
    { numRuns: 60 },
  );
});

test('what a place has removed by policy is not missed there, and what is newer is', () => {
  const ledger = openIdLedger([{ name: 'archive' }, { name: 'speed' }, { name: 'batch' }]);
  try {
    const versions = [10, 19, 20, 30].map((writeTimestamp, n) => ({ uniqueId: idOf(n), writeTimestamp }));
    ledger.record('archive')(versions);
    ledger.record('speed')([{ uniqueId: idOf(9), writeTimestamp: 5 }]);
    const { differences, examples } = ledger.compare({ speed: 20 });
    expect(differences).toEqual({ speed: 3, batch: 4 });
    expect(examples.filter(({ place }) => place === 'speed')).toEqual([
      { uniqueId: idOf(2), place: 'speed', problem: 'missing' },
      { uniqueId: idOf(3), place: 'speed', problem: 'missing' },
      { uniqueId: idOf(9), place: 'speed', problem: 'extra' },
    ]);
  } finally {
    ledger.close();
  }
});
