import { expect, test } from 'bun:test';
import { readConfig } from '../config.ts';
import { openTracing } from './open.ts';

/** The small `@opentelemetry/api` comes with prom-client in any case. */
test('off by default, and then nothing that makes or sends spans is loaded', async () => {
  expect(await openTracing(readConfig({}), 'main')).toBeUndefined();
  const loadedBy = async (env: Readonly<Record<string, string>>) => {
    const code = `
      const { openTracing } = await import('${new URL('open.ts', import.meta.url).pathname}');
      const { readConfig } = await import('${new URL('../config.ts', import.meta.url).pathname}');
      await import('${new URL('../program.ts', import.meta.url).pathname}');
      const tracing = await openTracing(readConfig(${JSON.stringify(env)}), 'main');
      console.log(Object.keys(require.cache).filter((path) => /sdk-trace|exporter-trace-otlp|tracing.otlp/.test(path)).length);
      process.exit(0);`;
    const child = Bun.spawn([process.execPath, '-e', code], { stdout: 'pipe', stderr: 'inherit' });
    return Number(await new Response(child.stdout).text());
  };
  expect(await loadedBy({})).toBe(0);
  expect(await loadedBy({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' })).toBeGreaterThan(5);
});
