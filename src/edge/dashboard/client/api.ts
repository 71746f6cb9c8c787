import { setState } from './store.ts';

/** Kept for this tab only, and gone with it. */
const KEY = 'pinflow.key';

export const saveKey = (key: string): void => {
  sessionStorage.setItem(KEY, key);
  setState({ connection: 'connecting', keyProblem: null });
  for (const wake of waiting.splice(0)) wake();
};

const waiting: (() => void)[] = [];
/** Resolves when a key is given. */
export const keyGiven = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));

/**
 * Asks this server, with the key if there is one. Credentials the browser keeps by itself are left out, so that it does not
 * open its own dialogue when a key is wanted: the page has one.
 */
export const call = async (path: string, init: RequestInit = {}): Promise<Response> => {
  const key = sessionStorage.getItem(KEY);
  const headers = new Headers(init.headers);
  if (key !== null) headers.set('Authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers, credentials: 'omit' });
  if (response.status === 401)
    setState({ connection: 'locked', keyProblem: key === null ? null : 'This key is not one of API_KEYS.' });
  return response;
};

export const postJson = (path: string, body: string): Promise<Response> =>
  call(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });

export type Answer<T> = { readonly value: T } | { readonly problem: string };

type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown;

/** Whole numbers beyond 2^53 stay as they were written. */
const exact: Reviver = (_, value, context) =>
  typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '')
    ? context?.source
    : value;

/** The JSON of an answer, or the server's reason in its own words. */
export const answerOf = async <T>(asked: Promise<Response>): Promise<Answer<T>> => {
  try {
    const response = await asked;
    const value = JSON.parse(await response.text(), exact as (key: string, value: unknown) => unknown) as unknown;
    if (response.ok) return { value: value as T };
    const { error } = value as { readonly error?: { readonly message?: string } };
    return { problem: error?.message ?? `the server answered ${response.status}` };
  } catch {
    return { problem: 'The server did not answer. Try again when it is back.' };
  }
};
