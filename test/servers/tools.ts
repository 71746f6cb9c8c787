import { installPackages } from './install.ts';
import { serverMode } from './settings.ts';

/** Programs of Debian's packages that a test starts itself, as against servers that tests share. */
const PACKAGES = {
  mariadbd: 'mariadb-server',
  prometheus: 'prometheus',
  promtool: 'prometheus',
  'prometheus-postgres-exporter': 'prometheus-postgres-exporter',
} as const;
export type Tool = keyof typeof PACKAGES;

/** Why it is not there. The empty path lets a test file be read as far as its `skipIf`. */
export type NoTool = { readonly skip: string; readonly path: '' };

/**
 * Where the program is. As `testServer`: a skip prints why, and with PINFLOW_TEST_SERVERS=all there is no skip, what is missing is
 * installed. @throws Error when it should be there and is not
 */
export const testTool = async (tool: Tool): Promise<{ readonly path: string } | NoTool> => {
  const mode = serverMode();
  if (mode === 'all' && Bun.which(tool) === null) await installPackages(PACKAGES[tool]);
  const path = mode === 'none' ? null : Bun.which(tool);
  if (path !== null) return { path };
  const skip = `no ${tool}: it comes with the package \`${PACKAGES[tool]}\``;
  console.warn(`skipped: ${skip}`);
  return { skip, path: '' };
};
