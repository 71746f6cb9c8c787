import { PinflowError } from '../../errors.ts';
import * as entryFile from './client/main.tsx' with { type: 'file' };

/** An import as a file is its path, whatever the type system takes it for. */
const entry = (entryFile as unknown as { readonly default: string }).default;

let bundled: Promise<string> | null = null;

const build = async (): Promise<string> => {
  const { success, outputs, logs } = await Bun.build({
    entrypoints: [entry],
    target: 'browser',
    format: 'esm',
    minify: true,
    throw: false,
  });
  const [script] = outputs;
  if (success && script !== undefined) return script.text();
  throw new PinflowError('internal', `the dashboard's script could not be put together: ${logs.join('; ')}`);
};

/** The page's script in one piece, made when it is first asked for, some 50 ms: the start of the edge does not wait for it. */
export const dashboardScript = (): Promise<string> => {
  bundled ??= build().catch((error: unknown) => {
    bundled = null;
    throw error;
  });
  return bundled;
};
