import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../src/config.ts';
import { somePin } from '../../src/edge/fixture.ts';
import { openLog } from '../../src/log/open.ts';
import { sourceHeaders, sourceOf } from '../../src/log/source.ts';
import { createLogger } from '../../src/logger.ts';
import { freshDatabase, freshName } from '../servers/fresh.ts';
import { testServer } from '../servers/servers.ts';
import { type Env, eventually, type Running, runCommand, startProgram } from './program.ts';

/**
 * Records of another producer that can become no pin: each is set aside with its reason, holds nobody up, and is sent again or
 * dropped by a person, on the embedded log and on Kafka.
 */
setDefaultTimeout(240_000);
const SETTLE_MS = 90_000;

const kafka = await testServer('kafka');
const postgres = await testServer('postgres');

const LOGS = [
  { name: 'the embedded log', settings: {}, isThere: true },
  { name: 'Kafka', settings: kafka.settings, isThere: !('skip' in kafka) },
];

type Listed = { readonly id: string; readonly stage: string; readonly reason: string };

for (const { name, settings, isThere } of LOGS) {
  describe.skipIf(!isThere)(`dlq on ${name}`, () => {
    const dir = mkdtempSync(join(tmpdir(), 'pinflow-dlq-'));
    let program: Running | undefined;
    let dropDatabase = async () => {};
    afterAll(async () => {
      await program?.kill('SIGKILL');
      await dropDatabase();
      rmSync(dir, { recursive: true, force: true });
    });

    test('lists, shows, sends again and drops what could not be handled', async () => {
      const database = 'skip' in postgres ? null : await freshDatabase(postgres.settings);
      dropDatabase = database?.drop ?? dropDatabase;
      const env = {
        DATA_DIR: dir,
        PIN_TOPIC: freshName('pins'),
        ARCHIVE_MAX_SECONDS: '1',
        CLEAN_CRON: '* * * * * *',
        ...settings,
        ...database?.settings,
      } as Env;
      const dlq = (...args: readonly string[]) => runCommand(env, ['dlq', ...args]);
      const list = async () => JSON.parse((await dlq('list', '--format', 'json')).stdout) as Listed[];
      program = await startProgram(env);
      const { url } = program;

      const neighbour = somePin();
      const poison = [new TextEncoder().encode('no JSON at all'), new TextEncoder().encode('{"unique_id":7}')];
      const log = await openLog(readConfig(env), { logger: createLogger('silent', 'test') });
      const line = new TextEncoder().encode(JSON.stringify(neighbour));
      const keyed = [...poison, line].map((value) => ({ key: 'k', value, ...sourceHeaders('someone') }));
      await log.append(keyed);

      const letters = await eventually('both layers have set both records aside', SETTLE_MS, async () => {
        const found = await list();
        return found.length >= 4 ? found : null;
      });
      expect(letters.map(({ stage }) => stage).sort()).toEqual(['clean', 'clean', 'stream', 'stream']);
      const notJson = letters.find(({ stage, reason }) => stage === 'stream' && /JSON/.test(reason)) as Listed;
      const notAPin = letters.find(({ stage, reason }) => stage === 'stream' && /unique_id/.test(reason)) as Listed;

      const shown = await dlq('show', notJson.id);
      expect(JSON.parse(shown.stdout)).toMatchObject({ stage: 'stream', value: 'no JSON at all', encoding: 'utf8' });
      expect((await dlq('show', 'nothing')).stderr).toMatch(/no open letter has the id nothing/);

      const same = await dlq('retry', notJson.id);
      expect([same.code, same.stdout]).toEqual([1, '']);
      expect(same.stderr).toMatch(/still no pin.*--with FILE/);

      const mended = somePin();
      const file = join(dir, 'mended.json');
      await Bun.write(file, JSON.stringify(mended));
      const retried = await dlq('retry', notJson.id, '--with', file);
      expect([retried.code, retried.stderr]).toEqual([0, expect.stringContaining('1 records sent again')]);
      const places = (await log.partitions()).map(({ partition }) => log.read({ partition, offset: 0 }, 100));
      const again = (await Promise.all(places)).flat().find(({ key }) => key === mended.unique_id);
      expect(again && sourceOf(again)).toBe('someone');
      await log.close();
      expect((await dlq('drop', notAPin.id)).code).toBe(0);
      expect((await list()).map(({ stage }) => stage)).toEqual(['clean', 'clean']);
      expect((await dlq('drop', '--all')).stderr).toContain('2 letters dropped');
      expect(await list()).toEqual([]);

      for (const pin of [neighbour, mended]) {
        await eventually(`${String(pin.unique_id)} is in both views`, SETTLE_MS, async () => {
          const response = await fetch(`${url}/pins/${String(pin.unique_id)}`);
          const { speed_view, batch_views } = (await response.json()) as {
            speed_view?: { state: string };
            batch_views?: { state: string }[];
          };
          const isThere = speed_view?.state === 'present' && batch_views?.every(({ state }) => state === 'present');
          return isThere ? true : null;
        });
      }
      expect(await program.kill('SIGTERM')).toBe(0);
      // Nothing is set aside anew by what was sent again, or by a restart.
      expect(await list()).toEqual([]);
    });
  });
}
