import { putManifest } from '../src/blob/archive.ts';
import { encodeArchiveObject } from '../src/blob/archive-object.ts';
import type { BlobStore } from '../src/blob/blob.ts';
import { generatePins } from '../src/emulator/generate.ts';
import { acceptPin } from '../src/pin/decode.ts';

/** 2026-01-01, in microseconds. */
const START_MICROS = 1_767_225_600_000_001;

/** Puts an archive of one partition as the archiver writes it: generated pins of distinct ids, `pinsEach` an object. */
export const fillArchive = async (store: BlobStore, pins: number, pinsEach: number): Promise<void> => {
  const [source, encoder] = [generatePins({ seed: 6 }), new TextEncoder()];
  for (let first = 0; first < pins; first += pinsEach) {
    const last = Math.min(first + pinsEach, pins) - 1;
    const lines: Uint8Array[] = [];
    for (let offset = first; offset <= last; offset++) {
      const accepted = acceptPin(encoder.encode(JSON.stringify(source.next().value)), START_MICROS + offset * 1001);
      if (!accepted.ok) throw new Error(accepted.reject.reason);
      lines.push(accepted.value.line, encoder.encode('\n'));
    }
    const text = { partition: 0, runs: [[first, last]] as const, pins: last - first + 1, text: Buffer.concat(lines) };
    const { entry, bytes, metadata } = await encodeArchiveObject(text);
    await store.put(entry.key, bytes, { metadata, ifAbsent: true });
    await putManifest(store, entry);
  }
};
