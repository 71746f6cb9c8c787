import { join } from 'node:path';
import { risingMicros } from '../../src/clock.ts';
import { createPostPins } from '../../src/edge/bulk.ts';
import { responseOf } from '../../src/edge/error-response.ts';
import { createIntake } from '../../src/edge/intake.ts';
import { createPostPin } from '../../src/edge/pins.ts';
import { isPinflowError, messageOf } from '../../src/errors.ts';
import { deadLetterSender } from '../../src/log/dlq.ts';
import { type Inlet, straightInlet } from '../../src/log/inlet.ts';
import type { PinLog } from '../../src/log/log.ts';
import { ARCHIVE_GROUP, STREAM_GROUP } from '../../src/log/names.ts';
import { withSpool } from '../../src/log/spool.ts';
import { openSqliteLog } from '../../src/log/sqlite.ts';
import { createLogger } from '../../src/logger.ts';
import { createMetrics, type Metrics } from '../../src/metrics.ts';
import { createArchiver } from '../../src/workers/archiver.ts';
import { type Cleaner, createCleaner } from '../../src/workers/cleaner.ts';
import type { Worker } from '../../src/workers/protocol.ts';
import { createStreamer } from '../../src/workers/streamer.ts';
import { openMemoryBlobStore } from './memory-blob.ts';
import { blobOf, type CheckCommit, logOf, type PortDeps, pinStoreOf } from './ports.ts';
import { databaseOf } from './postgres.ts';
import type { Sim } from './sim.ts';
import type { Process } from './virtual-time.ts';

export type Role = 'edge' | 'archive' | 'stream' | 'clean';

/** Making them anew for each start took a tenth of a seed. Only the edge's are looked at, each edge has its own. */
const workerMetrics = createMetrics();

/** One simulated process and what it does. */
export type Member = {
  readonly role: Role;
  readonly index: number;
  readonly process: Process;
  readonly edge?: Edge;
  readonly cleaner?: Cleaner;
};

export type Edge = { readonly post: (path: string, body: string) => Promise<Response>; readonly metrics: Metrics };

/** Shorter than in life: seeds have seconds, and takeovers should be many. Milliseconds. */
const SESSION_TIMEOUT_MS = 1500;
const SPOOL_DEADLINE_MS = 800;
const LEASE_TTL_MS = 2000;
const REQUEST_TIMEOUT_MS = 3000;
const MEBI = 1024 * 1024;

const logger = createLogger('silent', 'sim');
export const TOPIC = 'pins';

/** The log's files as one process opens them. */
export const openSimLog = (sim: Pick<Sim, 'world' | 'dir' | 'scenario' | 'files'>, topic = TOPIC): Promise<PinLog> =>
  sim.world.outside(() =>
    openSqliteLog({
      dir: sim.dir,
      topic,
      partitions: topic === TOPIC ? sim.scenario.partitions : 1,
      retentionHours: 10_000,
      retentionBytes: 2 ** 40,
      maxPendingBytes: MEBI,
      groups: [ARCHIVE_GROUP, STREAM_GROUP],
      logger,
      clock: { now: sim.world.wallClock },
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      openFile: sim.files.open,
    }),
  );

type Start = { readonly sim: Sim; readonly ports: PortDeps; readonly log: PinLog; readonly metrics: Metrics };

const earlyInlet = (inlet: Inlet, durability: PinLog['durability']): Inlet => ({
  ...inlet,
  append: async (records) => {
    inlet.append(records).catch(() => {});
    return { durability, positions: null };
  },
});

const startEdge = async ({ sim, ports, log, metrics }: Start, index: number): Promise<Edge> => {
  const { scenario, world } = sim;
  const spool = {
    dir: sim.spoolDir(index),
    maxBytes: scenario.spoolBytes,
    deadlineMs: SPOOL_DEADLINE_MS,
    logger,
    metrics,
  };
  const honest = scenario.broker ? await withSpool(log, spool) : straightInlet(log);
  const limits = {
    MAX_PIN_BYTES: 3000,
    MAX_BODY_BYTES: 8000,
    MAX_BULK_PINS: 100,
    MAX_PENDING_BYTES: scenario.pendingBytes,
    REQUEST_TIMEOUT_MS,
    FEEDBACK_WAIT_MS: 0,
    API_KEYS: undefined,
  };
  const inlet = ports.sabotage === 'early ack' ? earlyInlet(honest, log.durability) : honest;
  const intake = createIntake({ inlet, limits, metrics });
  const newest = (await sim.observer.lastTimestamp()) ?? 0;
  const deps = { stamp: risingMicros({ now: world.wallClock }, newest * 1000 + 999), limits };
  const feedbackWait = async () => 'no client of the simulator asks for it';
  const postPin = createPostPin({ ...deps, feedbackWait }, intake);
  const postPins = createPostPins(deps, intake);
  const routes = new Map([
    ['/pin/', (request: Request) => postPin(request, {}, null)],
    ['/pins', (request: Request) => postPins(request, null)],
  ]);
  const handle = async (request: Request, path: string) => {
    try {
      return (await routes.get(path)?.(request)) ?? new Response(null, { status: 404 });
    } catch (error) {
      return responseOf(error, logger);
    }
  };
  return {
    metrics,
    post: (path, body) => {
      const headers = { 'content-type': path === '/pins' ? 'application/x-ndjson' : 'application/json' };
      return world.within(ports.process, () =>
        handle(new Request(`http://sim${path}`, { method: 'POST', body, headers }), path),
      );
    },
  };
};

const openWorker = ({ sim, ports, log, metrics }: Start, role: Exclude<Role, 'edge'>): Worker | Cleaner => {
  const { scenario, world, network, objects, postgres } = sim;
  const common = {
    log,
    metrics,
    logger,
    clock: { now: world.wallClock },
    status: () => {},
    reached: network.reached(ports.process),
  };
  const store = blobOf(ports, openMemoryBlobStore(objects, scenario.conditionalPut));
  if (role === 'archive') return createArchiver({ ...common, store, limits: scenario.archive, group: ARCHIVE_GROUP });
  if (postgres === null) throw new Error(`a ${role} worker needs a Postgres`);
  const database = databaseOf(ports, world, postgres);
  const append = logOf(ports, sim.deadLetters, true, async () => {}).append;
  const sendDeadLetters = deadLetterSender({ append });
  if (role === 'stream') {
    const limits = { maxPins: scenario.maxBatchPins, maxBytes: MEBI };
    return createStreamer({ ...common, database, sendDeadLetters, topic: TOPIC, group: STREAM_GROUP, limits });
  }
  return createCleaner({
    ...common,
    store,
    pinStores: sim.pinStores.map((pinStore) => pinStoreOf(ports, pinStore)),
    database,
    sendDeadLetters,
    schedule: { cron: 'off', timezone: 'UTC' },
    timeoutSeconds: 600,
    holder: ports.process.name,
    leaseTtlMs: LEASE_TTL_MS,
  });
};

/** Runs a worker; one that throws is dead, as its thread would be. What is no error of the program's own fails the seed. */
const runWorker = async ({ sim, ports: { process } }: Start, worker: Worker) => {
  try {
    await worker.run();
  } catch (error) {
    if (process.state === 'dead') return;
    if (!isPinflowError(error)) sim.fail(`${process.name} threw ${messageOf(error)}`);
    sim.network.kill(process, `of its own error: ${messageOf(error)}`);
  }
};

/** Starts a process anew over what is durable. */
export const startMember = async (sim: Sim, role: Role, index: number, checkCommit: CheckCommit): Promise<Member> => {
  const { world, network, random, scenario, sabotage } = sim;
  const process = world.spawn(`${role}-${index}.${sim.nextIncarnation()}`);
  const real = await openSimLog(sim);
  const ports: PortDeps = { network, random, process, sabotage };
  const metrics = role === 'edge' ? createMetrics() : workerMetrics;
  const start: Start = { sim, ports, log: logOf(ports, real, scenario.broker, checkCommit), metrics };
  return world.within(process, async () => {
    if (role === 'edge') return { role, index, process, edge: await startEdge(start, index) };
    const worker = openWorker(start, role);
    void runWorker(start, worker);
    return { role, index, process, cleaner: 'runNow' in worker ? worker : undefined };
  });
};

export const spoolFolder = (dir: string, index: number) => join(dir, `edge-${index}`);
