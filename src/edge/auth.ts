import { createHash, timingSafeEqual } from 'node:crypto';
import { PinflowError } from '../errors.ts';

/**
 * Who may ask. With API_KEYS set, every route but /healthz and /readyz wants `Authorization: Bearer <key>`, or HTTP Basic
 * with the key's name and key, which lets a browser open the dashboard.
 *
 * Without keys the edge is open on loopback only, and there the Host header has to name loopback: otherwise a web page
 * could point a name of its own at 127.0.0.1 (DNS rebinding) and read and post as if it were local. No CORS header is ever
 * sent, and pins are taken as JSON only, which a foreign page cannot send without asking first.
 *
 * Answers with the name of the key, null without keys. Two keys of one name are one source: that is how a key is replaced.
 */
type Guard = (request: Request) => string | null;

const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|[a-z0-9-]+\.localhost)(:\d+)?$/i;

/** Digests have one length, which the constant-time comparison needs. */
const digest = (text: string) => createHash('sha256').update(text).digest();

/** The `name:key` or key a request carries, or null. */
const credentials = (header: string | null): { readonly kind: 'bearer' | 'basic'; readonly text: string } | null => {
  const match = /^(bearer|basic) +(\S+)$/i.exec(header ?? '');
  if (match === null) return null;
  const [, scheme = '', value = ''] = match;
  return scheme.toLowerCase() === 'bearer'
    ? { kind: 'bearer', text: value }
    : { kind: 'basic', text: Buffer.from(value, 'base64').toString('utf8') };
};

/** Compares with every key, whichever matches, so that time says nothing about them. */
const keyGuard = (keys: readonly string[]): Guard => {
  const names = keys.map((entry) => entry.slice(0, entry.indexOf(':')));
  const digests = {
    basic: keys.map(digest),
    bearer: keys.map((entry) => digest(entry.slice(entry.indexOf(':') + 1))),
  };
  return (request) => {
    const given = credentials(request.headers.get('authorization'));
    const wanted = digests[given?.kind ?? 'bearer'];
    const seen = digest(given?.text ?? '');
    const [name] = names.filter((_, n) => timingSafeEqual(wanted[n] as Buffer, seen));
    if (given === null || name === undefined)
      throw new PinflowError(
        'unauthorized',
        given === null
          ? 'a key is needed: send `Authorization: Bearer <key>`, or Basic with the name and the key'
          : 'this key is not one of API_KEYS',
      );
    return name;
  };
};

const loopbackGuard: Guard = (request) => {
  const host = request.headers.get('host');
  if (host !== null && !LOOPBACK_HOST.test(host))
    throw new PinflowError(
      'forbidden',
      'the Host header does not name this machine: use localhost, or set API_KEYS to serve other names',
    );
  return null;
};

/** @param keys `name:key` each, as API_KEYS holds them. @returns a guard that throws PinflowError `unauthorized` or `forbidden` */
export const createGuard = (keys: readonly string[] | undefined): Guard =>
  keys === undefined || keys.length === 0 ? loopbackGuard : keyGuard(keys);
