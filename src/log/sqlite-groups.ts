import { type FileKind, type OpenSqliteFile, openSqliteFile, type SqliteFile } from './sqlite-file.ts';

/** Who is in a group, as its file says. */
export type GroupState = {
  readonly members: readonly {
    readonly id: string;
    /** Milliseconds since the Unix epoch, by the member's clock. */
    readonly heartbeatAt: number;
  }[];
  readonly claims: readonly { readonly partition: number; readonly owner: string | null; readonly epoch: number }[];
};

export type Claims = ReadonlyMap<number, number>;

export type GroupPlan = {
  /** Members whose session has ended. */
  readonly dead: readonly string[];
  /** Partitions this member may take now. */
  readonly take: readonly number[];
  /** Partitions this member should give up, so that another can have its share. */
  readonly give: readonly number[];
  /** Partition → epoch of what is this member's now. */
  readonly mine: Claims;
};

/**
 * What one member should do next. Pure, and the same for all who look at the same state: members in the order of their
 * joining have fair shares that add up to all partitions, so nobody starves and nothing is left over.
 * @param held partitions this member still works on, though it may have lost them: not to be taken again before it has let go
 */
export const planGroup = (
  state: GroupState,
  me: string,
  now: number,
  sessionTimeoutMs: number,
  held: ReadonlySet<number>,
): GroupPlan => {
  // A heartbeat from the future is one from before the wall clock was set back; the living renew theirs at once.
  const isDead = (heartbeatAt: number) => Math.abs(now - heartbeatAt) > sessionTimeoutMs;
  const dead = state.members.filter((m) => m.id !== me && isDead(m.heartbeatAt)).map((m) => m.id);
  const alive = state.members.map((m) => m.id).filter((id) => !dead.includes(id));
  if (!alive.includes(me)) alive.push(me);
  const rank = alive.indexOf(me);
  const total = state.claims.length;
  const share = Math.floor(total / alive.length) + (rank < total % alive.length ? 1 : 0);

  const mine = state.claims.filter((c) => c.owner === me);
  const free = state.claims.filter((c) => c.owner === null || !alive.includes(c.owner)).map((c) => c.partition);
  return {
    dead,
    take: free.filter((p) => !held.has(p)).slice(0, Math.max(0, share - mine.length)),
    give: mine.slice(share).map((c) => c.partition),
    mine: new Map(mine.map((c) => [c.partition, c.epoch])),
  };
};

export type GroupStore = {
  /** What the group's file says now; a plain read. */
  readonly state: (group: string) => GroupState;
  /** Shows life, removes the dead and takes what is free, in one transaction. Answers the plan as it then stands. */
  readonly beat: (group: string, me: string, now: number, held: ReadonlySet<number>, mayTake: boolean) => GroupPlan;
  /** False when the claim is no longer this member's. */
  readonly commit: (group: string, me: string, partition: number, epoch: number, nextOffset: number) => boolean;
  readonly release: (group: string, me: string, partition: number, epoch: number) => void;
  /** Releases all claims and ends the membership. */
  readonly leave: (group: string, me: string) => void;
  readonly committed: (group: string) => ReadonlyMap<number, number>;
  readonly close: () => void;
};

/**
 * A file of its own, so that commits of readers and appends never wait for each other. NORMAL: a commit undone by power loss
 * is read again, which consumers bear anyway (at least once); a killed process loses none.
 * The epoch of a claim rises with each new owner: a commit names it, so one from before a takeover changes nothing.
 */
const groupFile: FileKind = {
  what: 'consumer group',
  applicationId: 0x70_66_6c_02,
  schemaVersion: 1,
  synchronous: 'NORMAL',
  create: (run) => {
    run(`CREATE TABLE members (
      joined INTEGER PRIMARY KEY AUTOINCREMENT, group_id TEXT NOT NULL, id TEXT NOT NULL, heartbeat_at INTEGER NOT NULL,
      UNIQUE (group_id, id))`);
    run(`CREATE TABLE claims (
      group_id TEXT NOT NULL, partition INTEGER NOT NULL, owner TEXT, epoch INTEGER NOT NULL DEFAULT 0, next_offset INTEGER,
      PRIMARY KEY (group_id, partition)) WITHOUT ROWID`);
  },
};

const MINE = 'group_id = ? AND partition = ? AND owner = ? AND epoch = ?';

const statementsOf = (file: SqliteFile) => ({
  members: file.prepare('SELECT id, heartbeat_at FROM members WHERE group_id = ? ORDER BY joined'),
  claims: file.prepare('SELECT partition, owner, epoch FROM claims WHERE group_id = ? ORDER BY partition'),
  beat: file.prepare(`INSERT INTO members (group_id, id, heartbeat_at) VALUES (?, ?, ?)
    ON CONFLICT (group_id, id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at`),
  remove: file.prepare('DELETE FROM members WHERE group_id = ? AND id = ?'),
  addClaim: file.prepare('INSERT OR IGNORE INTO claims (group_id, partition) VALUES (?, ?)'),
  take: file.prepare('UPDATE claims SET owner = ?, epoch = epoch + 1 WHERE group_id = ? AND partition = ?'),
  commit: file.prepare(`UPDATE claims SET next_offset = ? WHERE ${MINE}`),
  release: file.prepare(`UPDATE claims SET owner = NULL WHERE ${MINE}`),
  releaseAll: file.prepare('UPDATE claims SET owner = NULL WHERE group_id = ? AND owner = ?'),
  committed: file.prepare('SELECT partition, next_offset FROM claims WHERE group_id = ? AND next_offset IS NOT NULL'),
});

/** @throws PinflowError `config` when the file is damaged or foreign, `disk_full`, `log_unavailable` */
export const openGroupStore = async (
  path: string,
  partitions: number,
  sessionTimeoutMs: number,
  openFile: OpenSqliteFile = openSqliteFile,
): Promise<GroupStore> => {
  const file = await openFile(path, groupFile);
  const { reading, transaction } = file;
  const statements = statementsOf(file);
  const stateOf = (group: string): GroupState => ({
    members: statements.members.values(group).map(([id, at]) => ({ id: id as string, heartbeatAt: at as number })),
    claims: statements.claims.values(group).map(([partition, owner, epoch]) => ({
      partition: partition as number,
      owner: owner as string | null,
      epoch: epoch as number,
    })),
  });
  const beat: GroupStore['beat'] = (group, me, now, held, mayTake) => {
    const plan = () => planGroup(stateOf(group), me, now, sessionTimeoutMs, held);
    statements.beat.run(group, me, now);
    if (stateOf(group).claims.length < partitions) {
      for (let partition = 0; partition < partitions; partition++) statements.addClaim.run(group, partition);
    }
    const before = plan();
    for (const id of before.dead) statements.remove.run(group, id);
    if (mayTake) for (const partition of before.take) statements.take.run(me, group, partition);
    return plan();
  };
  return {
    state: (group) => reading(() => stateOf(group)),
    beat: (...args) => transaction(() => beat(...args)),
    commit: (group, me, partition, epoch, nextOffset) =>
      reading(() => statements.commit.run(nextOffset, group, partition, me, epoch).changes === 1),
    release: (group, me, partition, epoch) => {
      reading(() => statements.release.run(group, partition, me, epoch));
    },
    leave: (group, me) =>
      transaction(() => {
        statements.releaseAll.run(group, me);
        statements.remove.run(group, me);
      }),
    committed: (group) =>
      reading(() => new Map(statements.committed.values(group).map(([p, next]) => [p as number, next as number]))),
    close: file.close,
  };
};
