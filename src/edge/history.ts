import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { sampleOf } from './dashboard/sample.ts';
import type { Sample, Status } from './deps.ts';

/** Milliseconds between samples: a chart's pixel. */
const SAMPLE_MS = 2000;
/** Ten minutes of them, some 300 KB: what a person who opens the page wants to have seen. */
const MAX_SAMPLES = 300;

/** What happened before anyone looked. Kept in memory only: Prometheus is for longer. */
export type History = {
  /** Oldest first. */
  readonly samples: () => readonly Sample[];
  readonly stop: () => void;
};

type Options = {
  readonly status: () => Promise<Status>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** (Default: 2000) */
  readonly sampleMs?: number;
  /** (Default: 300) */
  readonly maxSamples?: number;
};

export const startHistory = ({
  status,
  clock,
  logger,
  sampleMs = SAMPLE_MS,
  maxSamples = MAX_SAMPLES,
}: Options): History => {
  const samples: Sample[] = [];
  let asking = false;
  const take = async () => {
    if (asking) return;
    asking = true;
    try {
      samples.push(sampleOf(await status(), clock.now()));
      if (samples.length > maxSamples) samples.shift();
    } catch (error) {
      logger.debug(`no sample for the dashboard: ${messageOf(error)}`);
    } finally {
      asking = false;
    }
  };
  const timer = setInterval(() => void take(), sampleMs);
  // An edge that could not start leaves nothing behind that holds up the end of the process.
  timer.unref();
  return { samples: () => samples, stop: () => clearInterval(timer) };
};
