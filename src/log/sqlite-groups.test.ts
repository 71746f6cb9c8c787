import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { type GroupState, openGroupStore, planGroup } from './sqlite-groups.ts';

const SESSION_MS = 10_000;
const NONE: ReadonlySet<number> = new Set();

type Owners = (string | null)[];

const stateOf = (members: readonly string[], owners: Owners): GroupState => ({
  members: members.map((id) => ({ id, heartbeatAt: 0 })),
  claims: owners.map((owner, partition) => ({ partition, owner, epoch: 0 })),
});

/** Lets each member in turn do what it plans, until nobody wants anything. */
const settle = (members: readonly string[], owners: Owners): number => {
  for (let round = 1; round <= 10; round++) {
    let changed = false;
    for (const me of members) {
      const { take, give } = planGroup(stateOf(members, owners), me, 0, SESSION_MS, NONE);
      for (const partition of give) owners[partition] = null;
      for (const partition of take) owners[partition] = me;
      changed ||= take.length + give.length > 0;
    }
    if (!changed) return round;
  }
  throw new Error(`did not settle: ${owners}`);
};

describe('planGroup', () => {
  test('from any state the living members come to fair shares of all partitions, in a few rounds', () => {
    const owner = fc.constantFrom(null, 'a', 'b', 'c', 'd', 'gone');
    const members = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1 });
    fc.assert(
      fc.property(members, fc.array(owner, { minLength: 1, maxLength: 12 }), (alive, owners) => {
        expect(settle(alive, owners)).toBeLessThanOrEqual(4);
        const sizes = alive.map((id) => owners.filter((o) => o === id).length);
        expect(sizes.reduce((a, b) => a + b)).toBe(owners.length);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('a member is dead when its heartbeat is a session old, or lies that far in the future', () => {
    const members = [
      { id: 'me', heartbeatAt: 0 },
      { id: 'late', heartbeatAt: 50_000 - SESSION_MS },
      { id: 'dead', heartbeatAt: 50_000 - SESSION_MS - 1 },
      { id: 'from before the clock was set back', heartbeatAt: 90_000 },
    ];
    const plan = planGroup({ members, claims: [] }, 'me', 50_000, SESSION_MS, NONE);
    expect(plan.dead).toEqual(['dead', 'from before the clock was set back']);
  });

  test('what a member still works on it does not take again', () => {
    const plan = planGroup(stateOf(['me'], [null, null, null]), 'me', 0, SESSION_MS, new Set([1]));
    expect(plan.take).toEqual([0, 2]);
  });
});

describe('group store', () => {
  test('a member that was away for a session has lost its partitions, and its commits change nothing', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pinflow-groups-'));
    const [one, two] = [
      await openGroupStore(join(dir, 'g.db'), 2, SESSION_MS),
      await openGroupStore(join(dir, 'g.db'), 2, SESSION_MS),
    ];
    const before = one.beat('g', 'zombie', 0, NONE, true).mine;
    expect([...before.keys()]).toEqual([0, 1]);
    expect(one.commit('g', 'zombie', 0, before.get(0) as number, 5)).toBe(true);

    const after = two.beat('g', 'heir', SESSION_MS + 1, NONE, true).mine;
    expect([...after.keys()]).toEqual([0, 1]);
    expect(one.commit('g', 'zombie', 0, before.get(0) as number, 9)).toBe(false);
    one.release('g', 'zombie', 0, before.get(0) as number);
    expect(two.commit('g', 'heir', 0, after.get(0) as number, 6)).toBe(true);
    expect(two.committed('g')).toEqual(new Map([[0, 6]]));

    // Back again it is a member like any other; what it gets then has a new epoch.
    two.leave('g', 'heir');
    const again = one.beat('g', 'zombie', SESSION_MS + 2, NONE, true).mine;
    expect(again.get(0)).toBeGreaterThan(after.get(0) as number);
    expect(one.commit('g', 'zombie', 0, before.get(0) as number, 1)).toBe(false);
    one.close();
    two.close();
    await rm(dir, { recursive: true });
  });
});
