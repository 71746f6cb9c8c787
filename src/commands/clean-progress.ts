import { Format, Presets, SingleBar } from 'cli-progress';
import type { ObjectTotals } from '../db/postgres/ledger-pages.ts';
import type { StepDone } from '../workers/clean-run.ts';

export type Progress = {
  readonly step: (step: StepDone) => void;
  readonly stop: () => void;
};

const MIB = 1024 * 1024;

/**
 * A bar on stderr with rate and time left; where that is no terminal, nothing.
 * @param totals of all stores together
 */
export const startProgress = (totals: ObjectTotals): Progress => {
  if (!process.stderr.isTTY || totals.pins === 0) return { step: () => {}, stop: () => {} };
  const startedAt = performance.now();
  const text = (bytes: number, pins: number) => ({
    rate: Math.round((pins * 1000) / Math.max(1, performance.now() - startedAt)).toLocaleString('en'),
    read: (bytes / MIB).toFixed(1),
    size: (totals.bytes / MIB).toFixed(1),
  });
  const bar = new SingleBar(
    {
      stream: process.stderr,
      format: '{bar} {percentage}% | {value}/{total} pins | {rate} pins/s | {read}/{size} MiB | {timeLeft} left',
      formatValue: (value, options, type) =>
        type === 'value' || type === 'total' ? value.toLocaleString('en') : Format.ValueFormat(value, options, type),
      hideCursor: true,
    },
    Presets.shades_grey,
  );
  let pins = 0;
  let bytes = 0;
  const timeLeft = () => {
    const seconds = ((totals.pins - pins) * (performance.now() - startedAt)) / 1000 / Math.max(1, pins);
    return pins === 0 ? '?' : `${Math.floor(seconds / 60)}m ${Math.round(seconds % 60)}s`;
  };
  bar.start(totals.pins, 0, { ...text(0, 0), timeLeft: '?' });
  return {
    step: (step) => {
      pins += step.pins;
      bytes += step.bytes;
      // New pins come while it runs.
      bar.setTotal(Math.max(totals.pins, pins));
      bar.update(pins, { ...text(bytes, pins), timeLeft: timeLeft() });
    },
    stop: () => bar.stop(),
  };
};
