import { Hono } from 'hono';
import { CompressionTypes } from 'kafkajs';
import { risingMicros, systemClock } from '../src/clock.ts';
import { readConfig } from '../src/config.ts';
import { createKafkaClient } from '../src/log/kafka-client.ts';
import { cutIntoSends, messagesOf, placePositions } from '../src/log/kafka-sends.ts';
import type { NewRecord } from '../src/log/log.ts';
import { createLogger } from '../src/logger.ts';
import { acceptPin } from '../src/pin/decode.ts';
import type { Position } from '../src/pin/pin.ts';

/**
 * The limit the edge into Kafka is measured against: what Bun.serve, Hono and kafkajs must do for a pin, and nothing else. It asks for no key, bounds
 * neither bodies nor memory nor time, has no spool and no metrics, and dies of what is no pin. Run as its own process; the arguments are a port that
 * several share, the topic, which is there, and its number of partitions.
 */
const [port = '', topic = '', partitions = ''] = process.argv.slice(2);
/** As the edge's own (`kafka-producer.ts`), milliseconds. */
const LINGER_MS = 3;
const NO_LIMITS = { maxRecords: Number.POSITIVE_INFINITY, maxBytes: Number.POSITIVE_INFINITY };

const { kafka } = createKafkaClient(readConfig(process.env), topic, createLogger('warn', 'bench'));
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false });
await producer.connect();
const stamp = risingMicros(systemClock);

let records: NewRecord[] = [];
let answers: ((position: Position) => void)[] = [];
let busy = false;

const send = async (): Promise<void> => {
  const [sent, answered, positions] = [records, answers, [] as Position[]];
  records = [];
  answers = [];
  for (const each of cutIntoSends(sent, Number(partitions), 1, NO_LIMITS).flat()) {
    const messages = messagesOf(each);
    placePositions(
      each,
      await producer.send({ topic, acks: -1, compression: CompressionTypes.ZSTD, messages }),
      positions,
    );
  }
  for (const [i, answer] of answered.entries()) answer(positions[i] as Position);
  busy = records.length > 0;
  if (busy) setTimeout(send, LINGER_MS);
};

const app = new Hono();
app.post(
  '/pin/',
  (c) =>
    new Promise<Response>((resolve) => {
      c.req.raw.bytes().then((body) => {
        const pin = acceptPin(body, stamp());
        if (!pin.ok) throw new Error(pin.reject.reason);
        const { uniqueId, line } = pin.value;
        records.push({ key: uniqueId, value: line });
        answers.push(({ partition, offset }) => {
          const place = { 'X-Pin-Durability': 'broker', 'X-Pin-Position': `${partition}/${offset}` };
          resolve(new Response(line, { headers: { 'Content-Type': 'application/json', ...place } }));
        });
        if (busy) return;
        busy = true;
        setImmediate(send);
      });
    }),
);
Bun.serve({
  hostname: '127.0.0.1',
  port: Number(port),
  reusePort: true,
  development: false,
  fetch: (request) => app.fetch(request),
});
process.stdout.write('ready\n');
