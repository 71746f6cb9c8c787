/** Grafana dashboards as JSON, from what is different about each panel. */

const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' } as const;
const POSTGRES = { type: 'grafana-postgresql-datasource', uid: 'postgres' } as const;

/** Grafana's grid is 24 wide. */
const GRID = 24;

type Query = {
  readonly expr: string;
  /** `{{label}}` stands for a label's value. */
  readonly legend: string;
};

export type Panel = {
  readonly title: string;
  readonly description?: string;
  readonly type: 'timeseries' | 'stat' | 'table' | 'barchart';
  /** As Grafana names it: `short`, `s`, `bytes`, `cps` (counts a second), `percentunit`. */
  readonly unit: string;
  /** Width and height in the grid. */
  readonly size: readonly [number, number];
  readonly queries: readonly Query[];
  /** SQL instead of `queries`; it answers with a table. */
  readonly sql?: string;
  /** Colour changes at these values: green below the first, red from the last on. */
  readonly thresholds?: readonly number[];
};

const WIDE = [12, 8] as const;
const SMALL = [4, 4] as const;

/** Lines over time. A query is `[expression, legend]`. */
export const lines = (title: string, unit: string, ...queries: readonly (readonly [string, string])[]): Panel => ({
  title,
  type: 'timeseries',
  unit,
  size: WIDE,
  queries: queries.map(([expr, legend]) => ({ expr, legend })),
});

/** The present value, large. */
export const number = (title: string, unit: string, expr: string, thresholds?: readonly number[]): Panel => ({
  title,
  type: 'stat',
  unit,
  size: SMALL,
  queries: [{ expr, legend: '' }],
  thresholds,
});

/** A bar for each row of the Postgres: its first column names it, the second is its length. */
export const bars = (title: string, sql: string): Panel => ({ ...rows(title, sql), type: 'barchart' });

/** Rows of the Postgres. */
export const rows = (title: string, sql: string): Panel => ({
  title,
  type: 'table',
  unit: 'short',
  size: WIDE,
  queries: [],
  sql: sql.replace(/\s+/g, ' ').trim(),
});

/** Quantiles of a histogram, over all processes. @param by further labels to keep */
export const quantiles = (histogram: string, by: readonly string[] = []): readonly (readonly [string, string])[] =>
  [0.5, 0.95, 0.99].map((q) => {
    const labels = ['le', ...by].join(', ');
    const legend = [`p${q * 100}`, ...by.map((label) => `{{${label}}}`)].join(' ');
    return [`histogram_quantile(${q}, sum by (${labels}) (rate(${histogram}_bucket[$__rate_interval])))`, legend];
  });

const COLOURS = ['green', 'yellow', 'red'];

const stepsOf = (thresholds: readonly number[]) => {
  const colours = thresholds.length === 1 ? ['green', 'red'] : COLOURS;
  return [null, ...thresholds].map((value, i) => ({ value, color: colours[i] }));
};

const targetsOf = ({ queries, sql }: Panel) =>
  sql === undefined
    ? queries.map(({ expr, legend }, i) => ({
        refId: String.fromCharCode(65 + i),
        datasource: PROMETHEUS,
        expr,
        legendFormat: legend,
      }))
    : [{ refId: 'A', datasource: POSTGRES, format: 'table', rawQuery: true, editorMode: 'code', rawSql: sql }];

/** Panels from left to right; a new line where the next does not fit. */
const placed = (panels: readonly Panel[]) => {
  let [x, y, lineHeight] = [0, 0, 0];
  return panels.map((panel) => {
    const [w, h] = panel.size;
    if (x + w > GRID) [x, y, lineHeight] = [0, y + lineHeight, 0];
    const gridPos = { x, y, w, h };
    x += w;
    lineHeight = Math.max(lineHeight, h);
    return { panel, gridPos };
  });
};

const panelJson = ({ panel, gridPos }: ReturnType<typeof placed>[number], i: number) => ({
  id: i + 1,
  title: panel.title,
  ...(panel.description === undefined ? {} : { description: panel.description }),
  type: panel.type,
  datasource: panel.sql === undefined ? PROMETHEUS : POSTGRES,
  gridPos,
  fieldConfig: {
    defaults: {
      unit: panel.unit,
      ...(panel.type === 'timeseries' ? { min: 0 } : {}),
      ...(panel.thresholds === undefined
        ? {}
        : { thresholds: { mode: 'absolute', steps: stepsOf(panel.thresholds) }, color: { mode: 'thresholds' } }),
    },
    overrides: [],
  },
  targets: targetsOf(panel),
});

export const dashboard = (name: string, title: string, panels: readonly Panel[]) => ({
  uid: `pinflow-${name}`,
  title: `pinflow ${title}`,
  tags: ['pinflow'],
  schemaVersion: 39,
  editable: false,
  refresh: '5s',
  time: { from: 'now-15m', to: 'now' },
  // The others, one click away.
  links: [{ type: 'dashboards', title: 'pinflow', tags: ['pinflow'], asDropdown: false, keepTime: true }],
  panels: placed(panels).map(panelJson),
});
