import type { IHeaders, KafkaMessage } from 'kafkajs';
import type { LogRecord } from './log.ts';

/** Value of a tombstone, and the headers of a record that has none: shared by all. */
export const NOTHING = new Uint8Array(0);
export const NO_HEADERS: Readonly<Record<string, string>> = {};

/** Of a header given several times, the last counts. */
const textOf = (value: IHeaders[string]): string => String((Array.isArray(value) ? value.at(-1) : value) ?? '');

const headersOf = (headers: IHeaders | undefined): Readonly<Record<string, string>> => {
  if (headers === undefined) return NO_HEADERS;
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, textOf(value)]));
};

/** A record as kafkajs reads it, as the port has it. A null value (a tombstone of another producer) is an empty one. */
export const toLogRecord = (partition: number, message: KafkaMessage): LogRecord => ({
  partition,
  offset: Number(message.offset),
  key: message.key === null ? null : message.key.toString('utf8'),
  value: message.value ?? NOTHING,
  timestamp: Number(message.timestamp),
  headers: headersOf(message.headers),
});
