import { defineConfig } from 'drizzle-kit';

/** `bunx drizzle-kit generate` turns changes of the schema into the next migration; `migrate` of the program applies them. */
export default defineConfig({
  dialect: 'postgresql',
  schema: './src/db/postgres/schema.ts',
  out: './migrations/postgres',
});
