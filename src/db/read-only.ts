import { PinflowError } from '../errors.ts';

/** Longest statement that is looked at, characters. */
const MAX_SQL = 100_000;

/** Text that is no code, as a regular expression: strings, quoted names, comments. */
export const QUOTED = String.raw`'(?:[^']|'')*'|"(?:[^"]|"")*"|\[[^\]]*\]|${'`[^`]*`'}|--[^\n]*|/\*[\s\S]*?(?:\*/|$)`;

/** What is left of a statement when strings and comments are blanked out. */
const codeOf = (sql: string): string => sql.replace(new RegExp(QUOTED, 'g'), (text) => ' '.repeat(text.length));

/** What reads, by its first word; EXPLAIN only of such, as EXPLAIN ANALYZE runs what it explains. */
const READS =
  /^(?:explain\b(?:\s+(?:analyze|verbose|query\s+plan)\b|\s*\([^)]*\))*\s+)?(?:select|with|values|table|show|describe|desc)\b/i;

/**
 * One statement that reads, by its words: a first guard, alike for every engine. Each engine has its own behind it.
 * @returns the statement without a trailing semicolon
 * @throws PinflowError `query` that says what is wrong
 */
export const oneReadOnlyStatement = (sql: string): string => {
  const refuse = (message: string) => new PinflowError('query', message);
  if (sql.length > MAX_SQL) throw refuse(`the query is ${sql.length} characters long; at most ${MAX_SQL} are allowed.`);
  const code = codeOf(sql);
  const words = code.trim();
  if (words === '') throw refuse('the query is empty: give one SELECT, such as "select count(*) from userposts".');
  if (/;\s*\S/.test(code)) throw refuse('the query has several statements: give one.');
  if (!READS.test(words)) {
    throw refuse(
      `only reading is allowed: a query starts with SELECT, WITH, VALUES, SHOW or EXPLAIN, not "${words.slice(0, 20)}".`,
    );
  }
  const end = code.lastIndexOf(';');
  return end === -1 ? sql : sql.slice(0, end);
};
