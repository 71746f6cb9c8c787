import fc from 'fast-check';
import type { NewRecord } from './log.ts';

const wellFormed = fc.oneof(
  fc.uuid(),
  fc.string(),
  fc.string({ unit: 'binary' }).map((s) => s.toWellFormed()),
);
/** Any record that can be appended; values around 8 KiB make lengths of three bytes. */
export const anyRecord: fc.Arbitrary<NewRecord> = fc.record(
  {
    key: wellFormed,
    value: fc.oneof(fc.uint8Array(), fc.uint8Array({ minLength: 8190, maxLength: 8200 })),
    headers: fc.dictionary(
      wellFormed.filter((name) => name !== '__proto__'),
      wellFormed,
      { maxKeys: 3 },
    ),
  },
  { requiredKeys: ['key', 'value'] },
);
