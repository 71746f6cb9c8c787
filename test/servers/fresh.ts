import { CreateBucketCommand } from '@aws-sdk/client-s3';
import postgresJs from 'postgres';
import type { Settings } from './recipe.ts';
import { bucketClient } from './s3.ts';

/** Names and places no other test has, so that tests of one server can run side by side. */
const random = () => crypto.randomUUID().replaceAll('-', '').slice(0, 12);

/** For a topic, a consumer group or the like: `pins-3f0c…`. */
export const freshName = (prefix: string): string => `${prefix}-${random()}`;

/** For CQL_KEYSPACE. Nothing is created: the store's own `migrate` does that. */
export const freshKeyspace = (): string => `test_${random()}`;

/** Settings with a bucket of its own; where TEST_S3_BUCKET names the only one to be used, with a folder of its own in it. */
export const freshBucket = async (settings: Settings): Promise<Settings> => {
  if (settings.S3_BUCKET !== undefined) return { ...settings, S3_PREFIX: `${freshName('test')}/` };
  const bucket = freshName('test');
  const client = bucketClient(settings);
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  } finally {
    client.destroy();
  }
  return { ...settings, S3_BUCKET: bucket };
};

export type FreshDatabase = { readonly settings: Settings; readonly url: string; readonly drop: () => Promise<void> };

/** An empty database on this Postgres. @param settings of `testServer('postgres')` */
export const freshDatabase = async (settings: Settings): Promise<FreshDatabase> => {
  const server = settings.DATABASE_URL ?? '';
  const name = `test_${random()}`;
  const onServer = async (statement: string) => {
    const sql = postgresJs(server, { max: 1, onnotice: () => {} });
    try {
      await sql.unsafe(statement);
    } finally {
      await sql.end();
    }
  };
  await onServer(`create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.toString(),
    settings: { DATABASE_URL: url.toString() },
    drop: () => onServer(`drop database if exists ${name} with (force)`),
  };
};
