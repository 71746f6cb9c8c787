import { blobContract } from '../../src/blob/contract.ts';
import { type Objects, openMemoryBlobStore } from './memory-blob.ts';

for (const conditionalPut of [true, false]) {
  blobContract(`the simulator's object store, ${conditionalPut ? 'with' : 'without'} conditional puts`, async () => {
    const objects: Objects = new Map();
    const open = () => openMemoryBlobStore(objects, conditionalPut);
    return { store: open(), other: open(), close: async () => {} };
  });
}
