import { type Config, readConfig } from '../config.ts';
import { type Engines, openEngines } from '../engines.ts';
import { createLogger, type Logger } from '../logger.ts';
import { type Format, printRows } from '../table.ts';

export type { Format };

/** What commands share: settings, a logger that keeps to what matters beside an answer, and printing. */
export type CommandContext = { readonly config: Config; readonly logger: Logger };

/** Warnings only unless LOG_LEVEL asks for more: a command's answer should not drown in the engines' messages. */
export const commandContext = (name: string): CommandContext => {
  const config = readConfig();
  const level = process.stderr.isTTY && config.LOG_LEVEL === 'info' ? 'warn' : config.LOG_LEVEL;
  return { config, logger: createLogger(level === 'info' ? 'warn' : level, name) };
};

/** Opens every engine, runs, closes. @returns the exit code of `work` */
export const withEngines = async (
  name: string,
  work: (engines: Engines, context: CommandContext) => Promise<number>,
) => {
  const context = commandContext(name);
  const engines = await openEngines(context.config, context.logger, name);
  try {
    return await work(engines, context);
  } finally {
    await engines.close();
  }
};

/** Objects as rows, their keys as columns. @param empty columns to show when there is no row */
export const printObjects = (
  objects: readonly Readonly<Record<string, unknown>>[],
  format: Format,
  empty: readonly string[],
) => {
  const columns = Object.keys(objects[0] ?? Object.fromEntries(empty.map((c) => [c, null])));
  const rows = objects.map((object) => columns.map((column) => object[column]));
  process.stdout.write(`${printRows({ columns, rows }, format)}\n`);
};

/** A message for the person who asked; stdout stays free for the answer. */
export const say = (text: string): void => void process.stderr.write(`${text}\n`);
