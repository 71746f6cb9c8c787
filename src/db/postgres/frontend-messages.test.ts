import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { createMessageReader, frontendMessage, prefixStatement, refuseCopyIn } from './frontend-messages.ts';

const startup = (code: number, body = '') => {
  const bytes = Buffer.alloc(8 + body.length);
  bytes.writeInt32BE(bytes.length, 0);
  bytes.writeInt32BE(code, 4);
  bytes.write(body, 8);
  return bytes;
};
const HELLO = startup(196_608, 'user\0postgres\0\0');

describe('createMessageReader', () => {
  test('finds the same messages however the bytes are cut', () => {
    const message = fc
      .record({ type: fc.constantFrom('Q', 'P', 'B', 'S'), body: fc.uint8Array({ maxLength: 40 }) })
      .map(({ type, body }) => frontendMessage(type, Buffer.from(body)));
    fc.assert(
      fc.property(fc.array(message), fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (messages, cuts) => {
        const bytes = Buffer.concat([startup(80_877_103), HELLO, ...messages]);
        const reader = createMessageReader();
        const read = [];
        for (let at = 0, n = 0; at < bytes.length; n++) {
          const size = cuts[n % cuts.length] ?? 1;
          read.push(...reader.push(Buffer.from(bytes.subarray(at, at + size))));
          at += size;
        }
        expect(read).toEqual([
          { kind: 'encryption' },
          { kind: 'startup', bytes: HELLO },
          ...messages.map((m) => ({ kind: 'message' as const, type: String.fromCharCode(m[0] ?? 0), bytes: m })),
        ]);
      }),
    );
  });

  test('knows a request to cancel', () => {
    const [message] = createMessageReader().push(Buffer.concat([startup(80_877_102), Buffer.alloc(0)]));
    expect(message).toEqual({ kind: 'cancel' });
  });

  test.each([
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a length of nothing', Buffer.from([0, 0, 0, 0, 0, 3, 0, 0])],
    ['protocol 2', startup(131_072)],
  ])('refuses %s', (_, bytes) => {
    expect(() => createMessageReader().push(bytes)).toThrow(/client/);
  });

  test('refuses a message longer than the limit before it has come', () => {
    const reader = createMessageReader();
    reader.push(HELLO);
    expect(() => reader.push(Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff]))).toThrow(/2147483648 bytes/);
  });
});

describe('prefixStatement', () => {
  const text = (type: string, body: string) => {
    const { bytes, name } = prefixStatement(type, frontendMessage(type, body), '1:');
    expect(bytes.readInt32BE(1)).toBe(bytes.length - 1);
    return [bytes.toString('utf8', 5), name];
  };
  test.each([
    ['P', 's1\0select 1\0\0\0', '1:s1\0select 1\0\0\0', '1:s1'],
    ['P', '\0select 1\0\0\0', '\0select 1\0\0\0', null],
    ['B', 'portal\0s1\0\0\0', 'portal\x001:s1\0\0\0', '1:s1'],
    ['B', '\0\0\0\0', '\0\0\0\0', null],
    ['D', 'Ss1\0', 'S1:s1\0', '1:s1'],
    ['D', 'Pportal\0', 'Pportal\0', null],
    ['C', 'Ss1\0', 'S1:s1\0', '1:s1'],
    ['E', 'portal\0\0\0\0\0', 'portal\0\0\0\0\0', null],
    ['Q', 'select 1\0', 'select 1\0', null],
  ])('%s %j', (type, body, expected, name) => {
    expect(text(type, body)).toEqual([expected, name]);
  });
});

describe('refuseCopyIn', () => {
  const refused = (type: string, body: string) => {
    const message = frontendMessage(type, body);
    return !refuseCopyIn(type, message).equals(message);
  };
  test.each([
    ['copy pins from stdin', true],
    ['  COPY pins (title)\n FROM  STDIN with (format csv)', true],
    ['begin; copy pins from stdin; commit', true],
    ['copy pins to stdout', false],
    ["copy pins from '/file'", false],
    ["select 'not a copy from stdin'", false],
    ['select 1', false],
  ])('%s', (query, expected) => {
    expect(refused('Q', `${query}\0`)).toBe(expected);
    expect(refused('P', `s1\0${query}\0\0\0`)).toBe(expected);
  });

  test('keeps the name and the parameters of what it replaces', () => {
    const bytes = refuseCopyIn('P', frontendMessage('P', 's1\0copy pins from stdin\0\0\0'));
    expect(bytes.readInt32BE(1)).toBe(bytes.length - 1);
    expect(bytes.toString('utf8', 5)).toMatch(/^s1\0do [^\0]+\0\0\0$/);
  });
});
