/** What a real server is to the tests: where to find one, or how to have one without a container engine. */
export const SERVER_NAMES = ['kafka', 'cassandra', 's3', 'postgres', 'trino'] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

/** Variables of pinflow that make it use the server, such as KAFKA_BROKERS: pass them to `readConfig`. */
export type Settings = Readonly<Record<string, string>>;

export type Started = {
  readonly pid: number;
  readonly settings: Settings;
  /** What only tests need to know, such as Kafka's other listeners. */
  readonly extra: Settings;
};

export type StartOptions = {
  /** An empty folder of its own for the data; it stands in the command line, by which the process is known again. */
  readonly folder: string;
  /** (Default: a free one.) */
  readonly port?: number;
  /** Settings of the servers named in `needs`. */
  readonly needed: Settings;
};

export type Recipe = {
  readonly name: ServerName;
  /** Servers that must run before it. */
  readonly needs: readonly ServerName[];
  /** Settings from the TEST_ variables, or null when those are not set. */
  readonly fromVariables: (env: Readonly<Record<string, string | undefined>>) => Settings | null;
  /** Settings of the server in compose.yaml, by its loopback port. */
  readonly compose: Settings;
  /** True when a server speaks the protocol there and lets us in. Never throws. */
  readonly answers: (settings: Settings) => Promise<boolean>;
  /** Null when `start` needs no download; else what is missing. */
  readonly missing: () => string | null;
  /** Downloads what is missing into the cache. */
  readonly install: () => Promise<void>;
  /** Launches it; does not wait until it answers. */
  readonly start: (options: StartOptions) => Promise<Started>;
  /** Longest until it answers after `start`, milliseconds: several times what it takes on two cores. */
  readonly startTimeoutMs: number;
};
