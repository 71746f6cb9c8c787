import * as client from './client.ts' with { type: 'text' };
import page from './page.html' with { type: 'text' };
import * as style from './style.css' with { type: 'text' };

/**
 * The first page: three static texts, part of the program, nothing from elsewhere. The script is type-checked like all
 * other code and stripped of its types here. An import as text is a string, whatever the type system takes the file for.
 */
const textOf = (imported: unknown): string => (imported as { readonly default: string }).default;

/** Only this program's own script and style run, it talks to its own origin only, and nobody may frame it. */
const SECURITY_HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};

type Asset = { readonly path: string; readonly response: () => Response };

const asset = (path: string, type: string, text: string): Asset => ({
  path,
  response: () => new Response(text, { headers: { ...SECURITY_HEADERS, 'Content-Type': `${type}; charset=utf-8` } }),
});

export const createDashboard = (): readonly Asset[] => [
  asset('/', 'text/html', page as unknown as string),
  asset('/dashboard.css', 'text/css', textOf(style)),
  asset('/dashboard.js', 'text/javascript', new Bun.Transpiler({ loader: 'ts' }).transformSync(textOf(client))),
];
