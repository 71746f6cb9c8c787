import type { Message, RecordMetadata } from 'kafkajs';
import type { Position } from '../pin/pin.ts';
import { sizeOf } from './group-commit.ts';
import type { NewRecord } from './log.ts';
import { partitionOf } from './partitioner.ts';

/** One request of a lane: some of the records of a flush, in their order. */
export type Send = {
  readonly messages: readonly Message[];
  /** Where each of them stands in the flush. */
  readonly places: readonly number[];
  /** The same messages, by partition. */
  readonly byPartition: Readonly<Record<number, readonly Message[]>>;
};

export type SendLimits = {
  readonly maxRecords: number;
  /** Before compression; a single larger record goes alone. */
  readonly maxBytes: number;
};

type OpenSend = { messages: Message[]; places: number[]; byPartition: Record<number, Message[]>; bytes: number };

const newSend = (): OpenSend => ({ messages: [], places: [], byPartition: {}, bytes: 0 });

const toMessage = ({ key, value, headers }: NewRecord, partition: number): Message => {
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { partition, key, value: bytes, headers: headers === undefined ? undefined : { ...headers } };
};

/**
 * Cuts records into requests. Each partition belongs to one lane, which sends its requests one after the other: so the
 * records of a partition keep their order though the lanes run side by side.
 * @returns the requests of each lane
 */
export const cutIntoSends = (
  records: readonly NewRecord[],
  partitions: number,
  lanes: number,
  { maxRecords, maxBytes }: SendLimits,
): readonly (readonly Send[])[] => {
  const cut: OpenSend[][] = Array.from({ length: lanes }, () => []);
  for (const [place, record] of records.entries()) {
    const partition = partitionOf(record.key, partitions);
    const lane = cut[partition % lanes] as OpenSend[];
    const bytes = sizeOf(record);
    let send = lane.at(-1);
    if (send === undefined || send.messages.length >= maxRecords || send.bytes + bytes > maxBytes) {
      send = newSend();
      lane.push(send);
    }
    const message = toMessage(record, partition);
    send.messages.push(message);
    send.places.push(place);
    send.byPartition[partition] ??= [];
    send.byPartition[partition].push(message);
    send.bytes += bytes;
  }
  return cut;
};

/**
 * The messages as kafkajs wants them, but with its grouping by partition, which is quadratic in the batch (a tenth of all
 * the work), done already: it groups by `messages.reduce`.
 */
export const grouped = ({ messages, byPartition }: Send): Message[] =>
  Object.assign([...messages], { reduce: () => byPartition });

/** Each partition's records got the offsets from its base offset on, in the order they were sent. */
export const positionsOf = ({ messages }: Send, answer: readonly RecordMetadata[]): readonly Position[] => {
  const next = new Map(answer.map(({ partition, baseOffset }) => [partition, Number(baseOffset ?? -1)]));
  return messages.map(({ partition = 0 }) => {
    const offset = next.get(partition) ?? -1;
    // kafkajs forgets a partition whose leader moves, between its retries, to a broker that has answered already.
    if (offset < 0) throw new Error(`the broker did not acknowledge the records of partition ${partition}`);
    next.set(partition, offset + 1);
    return { partition, offset };
  });
};
