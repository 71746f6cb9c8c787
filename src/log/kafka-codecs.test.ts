import { expect, test } from 'bun:test';
import { compressSync } from 'snappy';
import { decompressSnappy } from './kafka-codecs.ts';

const block = (text: string) => {
  const compressed = compressSync(text);
  const length = Buffer.alloc(4);
  length.writeInt32BE(compressed.length);
  return Buffer.concat([length, compressed]);
};

test('snappy: the blocks of snappy-java, as the Java client writes them', () => {
  const header = Buffer.concat([Buffer.from([0x82]), Buffer.from('SNAPPY\0'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 1])]);
  const stream = Buffer.concat([header, block('one,one,one,'), block(''), block('two')]);
  expect(decompressSnappy(stream).toString()).toBe('one,one,one,two');
  expect(decompressSnappy(header).length).toBe(0);
});

test('snappy: one bare block, as librdkafka writes it', () => {
  expect(decompressSnappy(compressSync('bare bare bare')).toString()).toBe('bare bare bare');
});
