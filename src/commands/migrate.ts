import { say, withEngines } from './context.ts';

/** Opening the engines brings Postgres up to date; the pin stores are asked here. */
export const migrate = (): Promise<number> =>
  withEngines('migrate', async ({ pinStores }) => {
    say('Postgres: up to date');
    for (const store of pinStores) {
      await store.migrate();
      say(`${store.name}: up to date`);
    }
    return 0;
  });
