import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What is in monitoring/, as tests look at it. */
export const ROOT = join(import.meta.dir, '../..');
export const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

export type Rule = {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
};

const RULES_FOLDER = 'monitoring/rules';

export const readRules = (): readonly Rule[] =>
  readdirSync(join(ROOT, RULES_FOLDER)).flatMap((file) => {
    const { groups } = Bun.YAML.parse(readText(join(RULES_FOLDER, file))) as {
      readonly groups: readonly { readonly rules: readonly Rule[] }[];
    };
    return groups.flatMap(({ rules }) => rules);
  });

/** Words of PromQL that look like a metric's name: functions are followed by a bracket, these are not. */
const KEYWORDS = new Set(['and', 'or', 'unless', 'bool', 'offset', 'inf', 'nan']);

/**
 * The series an expression selects, each as `name{matchers}`: what has to be there for it ever to answer.
 * Enough of PromQL for the queries here, which name the metric before the braces.
 */
export const selectorsOf = (expr: string): readonly string[] => {
  const text = expr
    .replace(/#.*$/gm, '')
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '')
    .replace(/\[[^\]]*\]/g, '');
  return [...text.matchAll(/\b([a-zA-Z_:][\w:]*)\b(\{[^}]*\})?(?!\s*\()/g)]
    .filter(([, name = '']) => !KEYWORDS.has(name))
    .map(([selector]) => selector);
};

/** `pinflow_x_seconds_bucket` → `pinflow_x_seconds`, where a histogram of that name is known. */
export const metricOf = (selector: string, histograms: ReadonlySet<string>): string => {
  const name = selector.replace(/\{.*$/s, '');
  const base = name.replace(/_(bucket|sum|count)$/, '');
  return histograms.has(base) ? base : name;
};
