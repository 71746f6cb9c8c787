import { describe, expect, test } from 'bun:test';
import { SETTINGS } from './config.ts';
import { withoutPassword } from './logger.ts';

/** What a program of these lines writes, in a process of its own: the logger writes to the real stderr. */
const written = async (level: string, lines: string): Promise<{ readonly out: string; readonly err: string }> => {
  const program = `import { createLogger } from './logger.ts'; const logger = createLogger('${level}', 'edge'); ${lines}`;
  const { stdout, stderr } = Bun.spawn([process.execPath, '-e', program], {
    cwd: import.meta.dir,
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [out, err] = await Promise.all([new Response(stdout).text(), new Response(stderr).text()]);
  return { out, err };
};

describe('createLogger', () => {
  test('JSON lines on stderr, with the name of the thread, nothing on stdout', async () => {
    const { out, err } = await written('info', `logger.info({ port: 8000 }, 'listening'); logger.debug('not shown');`);
    expect(out).toBe('');
    expect(err.trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(err)).toMatchObject({ level: 30, name: 'edge', port: 8000, msg: 'listening' });
  });

  test('no secret is printed, at the top or one level down', async () => {
    const secrets = Object.keys(SETTINGS).filter((name) => SETTINGS[name as keyof typeof SETTINGS].secret);
    const keys = [...secrets, 'password', 'secret', 'token', 'authorization', 'apiKey'];
    const logged = JSON.stringify(Object.fromEntries(keys.map((key) => [key, 'hunter2'])));
    const { err } = await written('info', `logger.info({ ...${logged}, config: ${logged} }, 'started');`);
    expect(err).not.toContain('hunter2');
    expect(err.match(/\[secret\]/g)).toHaveLength(2 * keys.length);
  });

  test('silent says nothing', async () => {
    expect(await written('silent', `logger.error('broken');`)).toEqual({ out: '', err: '' });
  });
});

describe('withoutPassword', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['postgres://user:hunter2@db:5432/pins?sslmode=require', 'postgres://user:***@db:5432/pins?sslmode=require'],
    ['postgres://user@db/pins', 'postgres://user@db/pins'],
    ['https://trino.example:8443/', 'https://trino.example:8443/'],
    ['hunter2 is no URL', '[unreadable URL]'],
  ];
  for (const [url, shown] of cases) {
    test(shown, () => expect(withoutPassword(url)).toBe(shown));
  }
});
