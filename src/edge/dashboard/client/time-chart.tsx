/** @jsxImportSource preact */
import { useEffect, useRef, useState } from 'preact/hooks';
import UPlot from 'uplot';
import { time } from './format.ts';
import type { Series } from './model.ts';

export type Line = {
  readonly name: string;
  readonly series: Series;
  /** A colour of the style sheet, such as `--line-1`. */
  readonly color: string;
};

type Props = {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly format: (value: number | null) => string;
  /** True colours the ground under the first line. */
  readonly filled?: boolean;
};

const HEIGHT = 170;
/** Rows of the table behind a chart: a minute each, more or less. */
const TABLE_ROWS = 12;

/** A colour of the style sheet as a canvas takes it: one, of the two that `light-dark()` names. */
const color = (name: string): string => {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
};

const options = (
  { lines, format, filled }: Props,
  width: number,
  onHover: (index: number | null) => void,
): UPlot.Options => {
  const axis = { stroke: () => color('--quiet'), font: '12px system-ui, sans-serif', ticks: { show: false } };
  const grid = { stroke: () => color('--grid'), width: 1 };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    hooks: { setCursor: [(plot) => onHover(plot.cursor.idx ?? null)] },
    scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, space: 70, size: 28, values: '{HH}:{mm}:{ss}' },
      { ...axis, grid, size: 62, space: 36, values: (_plot, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...lines.map((line, i) => ({
        label: line.name,
        stroke: () => color(line.color),
        width: 2,
        points: { show: false },
        ...(filled && i === 0 ? { fill: () => color('--fill-1') } : {}),
      })),
    ],
  };
};

const dataOf = (lines: readonly Line[]): UPlot.AlignedData => [
  [...(lines[0]?.series.times ?? [])],
  ...lines.map(({ series }) => [...series.values]),
];

/** The drawing itself: made once, fed with each new sample, as wide as its place. */
const Canvas = (props: Props & { readonly onHover: (index: number | null) => void }) => {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const { lines, onHover } = props;
  // Made once: what changes later are its data and its width.
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const made = new UPlot(options(props, element.clientWidth, onHover), dataOf(lines), element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const redraw = () => made.redraw(false);
    dark.addEventListener('change', redraw);
    return () => {
      resized.disconnect();
      dark.removeEventListener('change', redraw);
      made.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(dataOf(lines)), [lines]);
  return <div class="plot" ref={place} />;
};

const NumbersTable = ({ title, lines, format }: Props) => {
  const { times } = lines[0]?.series ?? { times: [] };
  const step = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  const shown = times.map((at, i) => ({ at, i })).filter(({ i }) => (times.length - 1 - i) % step === 0);
  return (
    <table>
      <caption>{title}</caption>
      <thead>
        <tr>
          <th scope="col">time</th>
          {lines.map(({ name }) => (
            <th key={name} scope="col" class="number">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {shown.map(({ at, i }) => (
          <tr key={at}>
            <th scope="row">{time(at * 1000)}</th>
            {lines.map(({ name, series }) => (
              <td key={name} class="number">
                {format(series.values[i] ?? null)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
};

/** Lines over time, with the newest value of each (or the one pointed at) in words, and the numbers as a table behind. */
export const TimeChart = (props: Props) => {
  const { title, lines, format } = props;
  const [hovered, setHovered] = useState<number | null>(null);
  const [open, setOpen] = useState(false);
  const at = hovered ?? (lines[0]?.series.times.length ?? 0) - 1;
  const hoveredTime = hovered === null ? undefined : lines[0]?.series.times[hovered];
  const says = lines.map(({ name, series }) => `${name} ${format(series.values.at(-1) ?? null)}`).join(', ');
  return (
    <figure class="card chart">
      <figcaption>
        <h3>{title}</h3>
        <ul class="legend">
          {lines.map(({ name, series, color: line }) => (
            <li key={name}>
              <span class="swatch" style={{ background: `var(${line})` }} aria-hidden="true" />
              {name} <b>{format(series.values[at] ?? null)}</b>
            </li>
          ))}
          {hoveredTime === undefined ? null : <li class="when">{time(hoveredTime * 1000)}</li>}
        </ul>
      </figcaption>
      <div role="img" aria-label={`${title} over the last minutes; now ${says}`}>
        <Canvas {...props} onHover={setHovered} />
      </div>
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>as numbers</summary>
        {open ? <NumbersTable {...props} /> : null}
      </details>
    </figure>
  );
};
