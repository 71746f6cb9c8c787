import { PinflowError } from '../../errors.ts';

/**
 * The names in a statement, as Postgres reads it (its manual, chapter "Lexical Structure"): what stands in strings and comments is
 * none. Whatever could be read in two ways is refused rather than guessed.
 */
type Token = { readonly kind: 'name' | 'sign'; readonly text: string };

const refuse = (message: string) => new PinflowError('query', message);

const SPACE = /\s+|--[^\n\r]*/y;
// Nested comments, escapes in strings and names, and dollar quotes are read otherwise by the first guard of all engines.
const REFUSED = /\/\*|\$|[eE]'|[uU]&['"]|\\/y;
const STRING = /[bBxXnN]?'(?:[^']|'')*'/y;
const NAME = /"((?:[^"]|"")*)"|([A-Za-z_\u0080-\u{10ffff}][\w\u0080-\u{10ffff}]*)/uy;
const NUMBER = /\d[\w.]*/y;

const at = (pattern: RegExp, sql: string, index: number): RegExpExecArray | null => {
  pattern.lastIndex = index;
  return pattern.exec(sql);
};

const tokensOf = (sql: string): readonly Token[] => {
  const tokens: Token[] = [];
  for (let i = 0; i < sql.length; ) {
    const plain = at(SPACE, sql, i) ?? at(STRING, sql, i) ?? at(NUMBER, sql, i);
    const refused = plain === null ? at(REFUSED, sql, i) : null;
    if (refused !== null)
      throw refuse(`${refused[0]} is not taken here: no block comments, escapes, parameters or dollar quotes.`);
    const name = plain === null ? at(NAME, sql, i) : null;
    if (name !== null)
      tokens.push({ kind: 'name', text: name[1]?.replaceAll('""', '"') ?? (name[2] ?? '').toLowerCase() });
    else if (plain === null) tokens.push({ kind: 'sign', text: sql[i] as string });
    i += (plain ?? name)?.[0].length ?? 1;
  }
  return tokens;
};

/** @returns all names of a statement, and those that are called as functions. @throws PinflowError `query` */
export const namesOf = (sql: string): { readonly all: ReadonlySet<string>; readonly called: ReadonlySet<string> } => {
  const tokens = tokensOf(sql);
  const names = tokens.filter(({ kind }) => kind === 'name');
  const called = tokens.filter(({ kind }, i) => kind === 'name' && tokens[i + 1]?.text === '(');
  return { all: new Set(names.map(({ text }) => text)), called: new Set(called.map(({ text }) => text)) };
};
