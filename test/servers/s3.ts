import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { freePorts, installed, installOnce, run } from './install.ts';
import { httpGet } from './probe.ts';
import { launch } from './process.ts';
import type { Recipe, Settings, StartOptions } from './recipe.ts';

/** versitygw: an S3 server over plain files. */
const NAME = 'versitygw-1.8.0';
const MODULE = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0';
const ACCESS_KEY = 'pinflow';
const SECRET_KEY = 'pinflow-secret';

const settingsAt = (endpoint: string, accessKey = ACCESS_KEY, secretKey = SECRET_KEY): Settings => ({
  S3_ENDPOINT: endpoint,
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: accessKey,
  AWS_SECRET_ACCESS_KEY: secretKey,
});

/** For what the adapter has no business to do: making and listing buckets. */
export const bucketClient = (settings: Settings): S3Client =>
  new S3Client({
    endpoint: settings.S3_ENDPOINT,
    region: settings.AWS_REGION,
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: {
      accessKeyId: settings.AWS_ACCESS_KEY_ID ?? '',
      secretAccessKey: settings.AWS_SECRET_ACCESS_KEY ?? '',
    },
  });

const start = async ({ folder, port }: StartOptions) => {
  const [free = 0] = await freePorts(1);
  const address = `127.0.0.1:${port ?? free}`;
  const data = join(folder, 'buckets');
  mkdirSync(data);
  const command = [join(installed(NAME), 'versitygw'), '--port', address, 'posix', data];
  const pid = launch(command, folder, { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY });
  return { pid, settings: settingsAt(`http://${address}`), extra: { dataFolder: data } };
};

export const s3: Recipe = {
  name: 's3',
  needs: [],
  fromVariables: (env) =>
    env.TEST_S3_ENDPOINT
      ? {
          ...settingsAt(env.TEST_S3_ENDPOINT, env.TEST_S3_ACCESS_KEY_ID, env.TEST_S3_SECRET_ACCESS_KEY),
          ...(env.TEST_S3_BUCKET ? { S3_BUCKET: env.TEST_S3_BUCKET } : {}),
          ...(env.TEST_S3_REGION ? { AWS_REGION: env.TEST_S3_REGION } : {}),
        }
      : null,
  compose: settingsAt('http://127.0.0.1:9000'),
  answers: async (settings) => {
    if ((await httpGet(settings.S3_ENDPOINT ?? '')) === null) return false;
    const client = bucketClient(settings);
    try {
      // A key may be good for its own bucket only: then listing them all says nothing.
      if (settings.S3_BUCKET === undefined) await client.send(new ListBucketsCommand({}));
      return true;
    } catch {
      return false;
    } finally {
      client.destroy();
    }
  },
  missing: () => (existsSync(installed(NAME)) ? null : 'versitygw 1.8.0 (a build of about two minutes with Go)'),
  install: () => installOnce(NAME, async (folder) => void (await run(['go', 'install', MODULE], { GOBIN: folder }))),
  start,
  startTimeoutMs: 30_000,
};
