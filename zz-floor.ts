import { Kafka, CompressionTypes } from 'kafkajs';
import { registerCodecs } from '/work/main/src/log/kafka-codecs.ts';
import { testServer } from '/work/main/test/servers/servers.ts';
import { readFileSync } from 'node:fs';
registerCodecs();
const server = await testServer('kafka');
const kafka = new Kafka({ brokers: [server.settings.KAFKA_BROKERS!], logLevel: 1 });
const admin = kafka.admin(); await admin.connect(); const topic = 'floor-' + Date.now(); await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] }); await admin.disconnect();
const lines = readFileSync('/work/shared/pins/sample.ndjson', 'utf8').trim().split('\n').slice(0, 500).map((l, i) => ({ partition: i % 3, key: JSON.parse(l).unique_id as string, value: Buffer.from(l) }));
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, createPartitioner: () => ({ message }) => message.partition! });
await producer.connect();
const grouped = () => { const a = lines.slice(); (a as any).reduce = () => { const g: Record<string, unknown[]> = {}; for (const m of lines) (g[m.partition] ??= []).push(m); return g; }; return a; };
for (const [name, msgs] of [['plain', () => lines], ['grouped', grouped], ['plain', () => lines], ['grouped', grouped]] as const) {
  const c0 = process.cpuUsage(); const t0 = performance.now(); let n = 0;
  while (performance.now() - t0 < 3000) { await producer.send({ topic, acks: -1, compression: CompressionTypes.ZSTD, messages: msgs() as never }); n += 500; }
  const cu = process.cpuUsage(c0); console.log(name, Math.round(n / ((performance.now() - t0) / 1000)), 'cpu us/pin', ((cu.user + cu.system) / n).toFixed(1));
}
await producer.disconnect();
