import * as chartStyle from 'uplot/dist/uPlot.min.css' with { type: 'text' };
import { dashboardScript } from './bundle.ts';
import page from './page.html' with { type: 'text' };
import * as baseStyle from './style/base.css' with { type: 'text' };
import * as partStyle from './style/parts.css' with { type: 'text' };
import * as pipelineStyle from './style/pipeline.css' with { type: 'text' };

/** The page and its two files: part of the program, nothing from elsewhere. An import as text is a string, whatever the type system takes the file for. */
const textOf = (imported: unknown): string => (imported as { readonly default: string }).default;

/**
 * Only this program's own script and style run, it talks to its own origin only, nobody may frame it, and no text becomes markup:
 * with trusted types and no policy, the browser itself refuses innerHTML and its like.
 */
const SECURITY_HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
  'Cache-Control': 'no-cache',
};

type Asset = { readonly path: string; readonly handle: () => Promise<Response> };

const asset = (path: string, type: string, text: () => string | Promise<string>): Asset => ({
  path,
  handle: async () =>
    new Response(await text(), { headers: { ...SECURITY_HEADERS, 'Content-Type': `${type}; charset=utf-8` } }),
});

export const createDashboard = (): readonly Asset[] => [
  asset('/', 'text/html', () => page as unknown as string),
  asset('/dashboard.css', 'text/css', () => [chartStyle, baseStyle, pipelineStyle, partStyle].map(textOf).join('\n')),
  asset('/dashboard.js', 'text/javascript', dashboardScript),
];
