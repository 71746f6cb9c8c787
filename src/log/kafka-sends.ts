import type { Message, RecordMetadata } from 'kafkajs';
import type { Position } from '../pin/pin.ts';
import { sizeOf } from './group-commit.ts';
import { encodeRecords } from './kafka-encoding.ts';
import type { NewRecord } from './log.ts';
import { partitionOf } from './partitioner.ts';

/** The records of one partition in a request, in their order. */
type Part = {
  readonly records: NewRecord[];
  /** Where each of them stands in the flush. */
  readonly places: number[];
};

/** One request of a lane: some of the records of a flush. */
export type Send = {
  /** By partition. */
  readonly parts: ReadonlyMap<number, Part>;
};

export type SendLimits = {
  readonly maxRecords: number;
  /** Before compression; a single larger record goes alone. */
  readonly maxBytes: number;
};

type OpenSend = { readonly parts: Map<number, Part>; records: number; bytes: number };

const newSend = (): OpenSend => ({ parts: new Map(), records: 0, bytes: 0 });

const partOf = ({ parts }: OpenSend, partition: number): Part => {
  const known = parts.get(partition);
  if (known !== undefined) return known;
  const part: Part = { records: [], places: [] };
  parts.set(partition, part);
  return part;
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
    if (send === undefined || send.records >= maxRecords || send.bytes + bytes > maxBytes) {
      send = newSend();
      lane.push(send);
    }
    const part = partOf(send, partition);
    part.records.push(record);
    part.places.push(place);
    send.records += 1;
    send.bytes += bytes;
  }
  return cut;
};

const NOTHING = Buffer.alloc(0);
/** What kafkajs has for an encoded record. */
const encoded = (buffer: Buffer) => ({ buf: buffer, buffer });
const NO_MORE = encoded(NOTHING);

/**
 * A partition's records as kafkajs 2.2.4 takes messages, of which it asks two things: how many there are, and by `map` once
 * their timestamps (none: the batch then has the time of its sending) and once their encoded records, which it joins.
 */
const encodedMessages = (records: readonly NewRecord[]): readonly Message[] => {
  const first = encoded(encodeRecords(records));
  const asMapped = Object.assign(
    records.map((_, i) => (i === 0 ? first : NO_MORE)),
    { filter: () => [] },
  );
  return Object.assign(new Array<Message>(records.length), { map: () => asMapped });
};

/**
 * The messages of a request, encoded by us and grouped by us: in kafkajs the first takes half of all the work of a bulk
 * append, and the second, by `messages.reduce`, is quadratic in the batch.
 */
export const messagesOf = ({ parts }: Send): Message[] => {
  const byPartition = Object.fromEntries(
    [...parts].map(([partition, { records }]) => [partition, encodedMessages(records)]),
  );
  const messages: Message[] = [{ value: NOTHING }];
  return Object.assign(messages, { reduce: () => byPartition });
};

/** Puts the position of each record to its place: a partition's got the offsets from its base offset on, in the order they were sent. */
export const placePositions = ({ parts }: Send, answer: readonly RecordMetadata[], positions: Position[]): void => {
  const bases = new Map(answer.map(({ partition, baseOffset }) => [partition, Number(baseOffset ?? -1)]));
  for (const [partition, { places }] of parts) {
    const base = bases.get(partition) ?? -1;
    // kafkajs forgets a partition whose leader moves, between its retries, to a broker that has answered already.
    if (base < 0) throw new Error(`the broker did not acknowledge the records of partition ${partition}`);
    for (const [i, place] of places.entries()) positions[place] = { partition, offset: base + i };
  }
};
