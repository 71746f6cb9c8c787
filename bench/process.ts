import { readFileSync } from 'node:fs';

/** What a process on Linux has used, from outside: the same for us and for a peer. */
const TICKS_PER_SECOND = 100;

/** CPU time a process has used so far, all its threads, microseconds. On a busy machine it says more than the clock. */
export const cpuOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
};

/** Resident memory of a process now, and the most it ever had, bytes. */
export const memoryOf = (pid: number): { readonly now: number; readonly peak: number } => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]);
  return { now: kib('VmRSS') * 1024, peak: kib('VmHWM') * 1024 };
};
