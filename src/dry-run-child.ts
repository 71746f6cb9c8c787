import { openBlobStore } from './blob/open.ts';
import { readConfig } from './config.ts';
import { isPinflowError, messageOf } from './errors.ts';
import { type ObjectCount, type ObjectPlace, objectCounter } from './workers/clean-count.ts';

/** A process that counts the objects its parent names, one at a time, until the parent lets go of it. */
export type ToCounter = ObjectPlace;
export type FromCounter =
  | { readonly counted: ObjectCount }
  | { readonly error: { readonly code: string; readonly message: string } };

const count = objectCounter(await openBlobStore(readConfig()));

const answer = async (object: ToCounter): Promise<FromCounter> => {
  try {
    return { counted: await count(object) };
  } catch (error) {
    return { error: { code: isPinflowError(error) ? error.code : 'internal', message: messageOf(error) } };
  }
};

process.on('message', async (object: ToCounter) => process.send?.(await answer(object)));
// Also when the parent was killed.
process.on('disconnect', () => process.exit(0));
