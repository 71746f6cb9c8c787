import { homedir } from 'node:os';
import { join } from 'node:path';

/** The environment of the tests: what pinflow's own src/config.ts must not know. */
export type Mode = 'auto' | 'all' | 'none';

const MODES: readonly string[] = ['auto', 'all', 'none'];

/** @throws Error when PINFLOW_TEST_SERVERS is none of its three values */
export const serverMode = (): Mode => {
  const mode = process.env.PINFLOW_TEST_SERVERS || 'auto';
  if (!MODES.includes(mode)) throw new Error(`PINFLOW_TEST_SERVERS=${mode}: should be auto, all or none`);
  return mode as Mode;
};

/** Downloads and the state of running servers; outside the checkout, so that a fresh clone finds them again. */
export const cacheFolder = (): string => process.env.PINFLOW_TEST_CACHE || join(homedir(), '.cache', 'pinflow-test');

export const testVariables = (): Readonly<Record<string, string | undefined>> => process.env;
