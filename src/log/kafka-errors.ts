import type { Config } from '../config.ts';
import { isAboutCertificate, messageOf, PinflowError } from '../errors.ts';
import { ARCHIVE_GROUP, dlqOf, groupIdOf, STREAM_GROUP } from './names.ts';

/** What kafkajs' errors carry; which of it depends on the class. */
type Detail = {
  readonly name?: string;
  /** The broker's error, such as `UNKNOWN_MEMBER_ID`. */
  readonly type?: string;
  /** The socket's error, such as `ECONNREFUSED`. */
  readonly code?: string;
  readonly broker?: string;
  readonly host?: string;
  readonly port?: number;
};

type KafkaSettings = Pick<
  Config,
  'PIN_TOPIC' | 'KAFKA_BROKERS' | 'KAFKA_SASL_MECHANISM' | 'KAFKA_SASL_USERNAME' | 'KAFKA_TLS'
>;

/** An error and its causes, outermost first: kafkajs wraps what it gives up on. */
const chainOf = (error: unknown): readonly Detail[] => {
  const chain: Detail[] = [];
  for (let e = error; e instanceof Error && chain.length < 10; e = e.cause) chain.push(e as Detail);
  return chain;
};

/** The broker's own name of the error, or null when it is not the broker's. */
export const brokerErrorOf = (error: unknown): string | null =>
  chainOf(error).find((e) => typeof e.type === 'string')?.type ?? null;

/** The broker's moods while it elects a leader or loads a coordinator. */
const PASSING_ERRORS: ReadonlySet<string> = new Set([
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
  'LEADER_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
  'NOT_LEADER_FOR_PARTITION',
  'OFFSET_NOT_AVAILABLE',
  'UNSTABLE_OFFSET_COMMIT',
]);

/** True for an error of the broker that goes away by itself within moments. */
export const isPassing = (error: unknown): boolean => PASSING_ERRORS.has(brokerErrorOf(error) ?? '');

/** What this program does with its topics and groups, as Redpanda's tool grants it. Kafka's own grants the same. */
const grants = (topic: string, user: string): string => {
  const acl = `rpk security acl create --allow-principal User:${user} --operation`;
  return [
    `${acl} create,describe,describe_configs,read,write --topic ${topic} --topic ${dlqOf(topic)}`,
    `${acl} describe,read --group ${groupIdOf(ARCHIVE_GROUP, topic)} --group ${groupIdOf(STREAM_GROUP, topic)}`,
  ].join('; ');
};

type Rule = {
  readonly applies: (text: string, types: ReadonlySet<string>) => boolean;
  /** What to do about it. @param at the broker */
  readonly advice: (at: string, settings: KafkaSettings, topic: string) => string;
};

/** First match wins. */
const RULES: readonly Rule[] = [
  {
    applies: (text, types) => types.has('KafkaJSSASLAuthenticationError') || /SASL/.test(text),
    advice: (at, s) =>
      s.KAFKA_SASL_MECHANISM === undefined
        ? `the broker ${at} wants a login: set KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.`
        : `the broker ${at} refused the login of ${s.KAFKA_SASL_USERNAME} by ${s.KAFKA_SASL_MECHANISM}: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM.`,
  },
  {
    applies: isAboutCertificate,
    advice: (at) =>
      `the certificate of the broker ${at} is not trusted: let KAFKA_TLS_CA_FILE name the PEM file of its certificate authority, and KAFKA_BROKERS the host the certificate is for.`,
  },
  {
    applies: (_, types) => types.has('UNKNOWN_TOPIC_OR_PARTITION'),
    advice: (at, _, topic) => `the broker ${at} has no topic ${topic}: create it, or check PIN_TOPIC.`,
  },
  {
    applies: (_, types) => [...types].some((type) => type.endsWith('_AUTHORIZATION_FAILED')),
    advice: (at, s, topic) =>
      `the broker ${at} does not allow ${s.KAFKA_SASL_USERNAME ?? 'this user'} to use topic ${topic} and its groups: correct KAFKA_SASL_USERNAME, or grant it: ${grants(s.PIN_TOPIC, s.KAFKA_SASL_USERNAME ?? 'ANONYMOUS')};`,
  },
  {
    applies: (_, types) => types.has('NOT_ENOUGH_REPLICAS') || types.has('NOT_ENOUGH_REPLICAS_AFTER_APPEND'),
    advice: (at, _, topic) =>
      `too few replicas of topic ${topic} are in sync (min.insync.replicas), says the broker ${at}: bring the other brokers up.`,
  },
  {
    applies: (text, types) =>
      types.has('KafkaJSConnectionClosedError') || /Closed connection|ECONNRESET|EPIPE/.test(text),
    advice: (at, s) =>
      s.KAFKA_TLS
        ? `the broker ${at} closed the connection: is the port of KAFKA_BROKERS one for TLS (KAFKA_TLS=true)?`
        : `the broker ${at} closed the connection: it is stopping, or the port of KAFKA_BROKERS wants KAFKA_TLS=true or KAFKA_SASL_MECHANISM.`,
  },
  {
    applies: (_, types) => types.has('KafkaJSConnectionError'),
    advice: (at) => `no broker answers at ${at}: start it, or check KAFKA_BROKERS.`,
  },
];

const brokerOf = (chain: readonly Detail[], settings: KafkaSettings): string => {
  const named = chain.find((e) => e.broker !== undefined || e.host !== undefined);
  return (
    named?.broker ?? (named === undefined ? (settings.KAFKA_BROKERS ?? []).join(',') : `${named.host}:${named.port}`)
  );
};

/** Whatever kafkajs threw, as a retryable `log_unavailable` that names the broker and the variable to look at. */
export const explainKafka = (error: unknown, settings: KafkaSettings, topic: string): PinflowError => {
  if (error instanceof PinflowError) return error;
  const chain = chainOf(error);
  const types = new Set(chain.flatMap((e) => [e.name ?? [], e.type ?? []].flat()));
  const text = chain.map((e) => `${e.code ?? ''} ${messageOf(e)}`).join(' ');
  const at = brokerOf(chain, settings);
  const rule = RULES.find((r) => r.applies(text, types));
  const advice =
    rule?.advice(at, settings, topic) ?? `the broker ${at} could not be used for topic ${topic}; see KAFKA_BROKERS.`;
  return new PinflowError('log_unavailable', `${advice} (${messageOf(error)})`, { retryable: true, cause: error });
};
