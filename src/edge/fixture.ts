import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { risingMicros, systemClock } from '../clock.ts';
import { readConfig } from '../config.ts';
import { straightInlet } from '../log/inlet.ts';
import type { PinLog } from '../log/log.ts';
import { openSqliteLog } from '../log/sqlite.ts';
import { createLogger, type Logger } from '../logger.ts';
import { createMetrics, mergeMetrics } from '../metrics.ts';
import { createApp, type EdgeApp } from './app.ts';
import type { EdgeDeps, EdgeLimits, Status } from './deps.ts';

/** For tests: the edge over a real embedded log in a folder of its own, without a port. */
export type Harness = {
  readonly app: EdgeApp;
  readonly log: PinLog;
  /** Records in the log. */
  readonly count: () => Promise<number>;
  /** The record at `<partition>/<offset>`, as X-Pin-Position has it. */
  readonly recordAt: (
    position: string | null,
  ) => Promise<{ readonly key: string | null; readonly line: string } | null>;
  readonly post: (path: string, body: BodyInit, headers?: Readonly<Record<string, string>>) => Promise<Response>;
  /** One counter or gauge of the Prometheus page, 0 when it is not there. */
  readonly metric: (name: string) => Promise<number>;
  readonly close: () => Promise<void>;
};

type Options = {
  readonly limits?: Partial<EdgeLimits>;
  /** Stands in for `append`, to make a real log fail. */
  readonly append?: (log: PinLog) => PinLog['append'];
  readonly deps?: Partial<EdgeDeps>;
};

const silent: Logger = createLogger('silent', 'test');
const decoder = new TextDecoder();

export const someStatus: Status = {
  stages: [{ name: 'edge', engine: 'http', pins: 3, lag: null, lagSeconds: null, ready: true }],
  totals: { rejected: 1, errors: 2, deadLetters: 0, spooled: 0 },
  durableSeconds: { bounds: [0.01], counts: [3, 0] },
  microBatchPins: { bounds: [10], counts: [1, 0] },
  errorFields: { title: 2 },
};

const readAt = async (log: PinLog, position: string | null) => {
  const [partition = -1, offset = -1] = (position ?? '').split('/').map(Number);
  const [record] = await log.read({ partition, offset }, 1);
  return record?.offset === offset ? { key: record.key, line: decoder.decode(record.value) } : null;
};

export const openHarness = async ({ limits = {}, append, deps = {} }: Options = {}): Promise<Harness> => {
  const dir = await mkdtemp(join(tmpdir(), 'pinflow-edge-'));
  const log = await openSqliteLog({
    dir,
    topic: 'pins',
    partitions: 3,
    retentionHours: 1,
    retentionBytes: 1024 ** 3,
    maxPendingBytes: 1024 ** 3,
    groups: [],
    logger: silent,
  });
  const metrics = createMetrics();
  const page = async () => mergeMetrics([await metrics.registry.getMetricsAsJSON()]);
  const app = createApp({
    inlet: straightInlet({ durability: log.durability, append: append?.(log) ?? log.append }),
    stamp: risingMicros(systemClock),
    clock: systemClock,
    limits: { ...readConfig({}), ...limits },
    metrics,
    metricsText: page,
    readiness: () => [{ part: 'log', ready: true }],
    journey: async (uniqueId) => ({
      uniqueId,
      speed: { state: 'absent' },
      batch: [],
      log: { state: 'absent' },
      archive: { state: 'absent' },
    }),
    status: () => someStatus,
    history: () => [],
    run: async () => null,
    letters: { list: async () => ({ total: 0, letters: [] }), show: async () => null, resolve: async () => 0 },
    query: async () => ({ columns: [], rows: [], truncated: false }),
    recentErrors: async () => [],
    errorPins: async () => [],
    feedback: { handled: async () => new Map(), read: log.read },
    recentRuns: async () => [],
    logger: silent,
    ...deps,
  });
  return {
    app,
    log,
    count: async () => (await log.partitions()).reduce((sum, { start, end }) => sum + end - start, 0),
    recordAt: (position) => readAt(log, position),
    post: async (path, body, headers = { 'content-type': 'application/json' }) =>
      app.request(path, { method: 'POST', body, headers }),
    metric: async (name) =>
      Number(
        (await page())
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')
          .at(-1) ?? 0,
      ),
    close: async () => {
      await log.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

/** A whole and right pin, with a new id. */
export const somePin = (over: Readonly<Record<string, unknown>> = {}) => ({
  category: 'tattoos',
  index: 1,
  unique_id: crypto.randomUUID(),
  title: 'A title',
  description: 'A description',
  follower_count: '5k',
  tag_list: 'one,two',
  is_image_or_video: 'image',
  image_src: 'https://example.org/1.jpg',
  downloaded: 1,
  save_location: 'Local save in /data/tattoos',
  ...over,
});
