import { type Logger as Pino, pino } from 'pino';
import pretty from 'pino-pretty';
import { SETTINGS } from './config.ts';

/** Messages for people and for a log collector: JSON lines on stderr, coloured text when stderr is a terminal. */
export type Logger = Pick<Pino, 'debug' | 'info' | 'warn' | 'error' | 'child'>;

/** Keys whose values must never be printed, at the top of what is logged or one level down. */
const SECRETS = [
  'password',
  'secret',
  'token',
  'authorization',
  'apiKey',
  ...Object.entries(SETTINGS).flatMap(([name, setting]) => (setting.secret ? name : [])),
];

/** @param name the thread it speaks for, such as `edge` or `archive-1` */
export const createLogger = (level: string, name: string): Logger => {
  const redact = { paths: SECRETS.flatMap((key) => [key, `*.${key}`]), censor: '[secret]' };
  const options = { level, name, redact, base: { name } };
  return process.stderr.isTTY
    ? pino(options, pretty({ destination: 2, sync: true, ignore: 'pid,hostname', translateTime: 'HH:MM:ss' }))
    : pino(options, pino.destination({ dest: 2, sync: true }));
};

/** A URL as it may be shown: without its password. */
export const withoutPassword = (url: string): string => {
  if (!URL.canParse(url)) return '[unreadable URL]';
  const shown = new URL(url);
  if (shown.password) shown.password = '***';
  return shown.toString();
};
