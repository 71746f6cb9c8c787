import { resolve } from 'node:path';
import { obeyParent } from '../chaos/parent.ts';
import { readConfig } from '../config.ts';
import { countsLine } from '../counts.ts';
import { createLogger, withoutPassword } from '../logger.ts';
import { type Program, type ProgramParts, startProgram } from '../program.ts';
import { firstKey, startEmulator } from './emulate.ts';

/** How often the status line is drawn anew, milliseconds: on a terminal in place, elsewhere a line only when it changed. */
const STATUS_TTY_MS = 500;
const STATUS_LINES_MS = 10_000;

const banner = (program: Program, dataDir: string): string =>
  [
    ...(program.edgeUrl === null
      ? []
      : [`edge       ${program.edgeUrl}   POST /pin/ and /pins`, `dashboard  ${program.edgeUrl}/`]),
    ...(program.metricsUrl === null ? [] : [`metrics    ${program.metricsUrl}`]),
    `Postgres   ${withoutPassword(program.postgresUrl)}`,
    `data       ${resolve(dataDir)}`,
    '',
  ].join('\n');

/** What is not there yet, or what the counts say. */
const statusText = async (program: Program): Promise<string> => {
  const missing = program.workers().flatMap((w) => (w.state === 'ready' ? [] : w.name));
  const counts = countsLine(await program.counts());
  return missing.length > 0 ? `${counts} · not ready: ${missing.join(', ')}` : counts;
};

const keepStatusLine = (program: Program): (() => void) => {
  const tty = process.stdout.isTTY;
  let shown = '';
  const draw = async () => {
    const line = await statusText(program);
    if (tty) process.stdout.write(`\r\x1b[2K${line.slice(0, (process.stdout.columns || 80) - 1)}`);
    else if (line !== shown) process.stdout.write(`${line}\n`);
    shown = line;
  };
  const timer = setInterval(() => void draw(), tty ? STATUS_TTY_MS : STATUS_LINES_MS);
  return () => {
    clearInterval(timer);
    if (tty) process.stdout.write('\n');
  };
};

/** As a shell shows a process that a signal ended: 128 and the signal's number. */
const EXIT_BY = { SIGINT: 130, SIGTERM: 143 } as const;

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once: nothing acked is lost by that. */
const untilSignal = (): Promise<string> =>
  new Promise((done) => {
    let asked = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (asked) process.exit(EXIT_BY[signal]);
        asked = true;
        done(signal);
      });
    }
  });

/** Runs until a signal, then drains. @returns 0 */
export const up = async (parts: ProgramParts, options: { readonly emulate?: number }): Promise<number> => {
  const config = readConfig();
  const signal = untilSignal();
  const command = `pinflow ${parts.edge ? (parts.work ? 'up' : 'edge') : 'work'}`;
  const logger = createLogger(config.LOG_LEVEL, parts.edge ? 'edge' : 'main');
  const program = await startProgram({ config, parts, logger, command });
  obeyParent(program);
  process.stdout.write(`${banner(program, config.DATA_DIR)}\n`);
  const stopStatus = keepStatusLine(program);
  const emulator =
    options.emulate !== undefined && program.edgeUrl !== null
      ? startEmulator({ url: program.edgeUrl, rate: options.emulate, apiKey: firstKey(config.API_KEYS) })
      : null;
  process.stderr.write(`\n${await signal}: draining; once more to end at once\n`);
  await emulator?.stop();
  await program.stop();
  stopStatus();
  process.stdout.write(`${countsLine(await program.counts())}\ndrained\n`);
  return 0;
};
