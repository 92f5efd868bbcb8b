import { type Html, html } from './html.ts';

export interface Bar {
  /** What the bar stands for, for its tooltip and for screen readers: `09:30`. */
  readonly label: string;
  readonly good: number;
  readonly bad: number;
  readonly rest: number;
}

const WIDTH = 360;
const HEIGHT = 96;
const FLOOR = HEIGHT - 16;

/** A stacked bar chart as inline SVG: delivered at the bottom, then failed, then what is still on its way. */
export function barChart(title: string, bars: readonly Bar[]): Html {
  const highest = Math.max(1, ...bars.map((bar) => bar.good + bar.bad + bar.rest));
  const step = WIDTH / Math.max(1, bars.length);
  const scale = (FLOOR - 12) / highest;
  const piece = (bar: Bar, at: number, tone: string, amount: number, below: number): Html | null =>
    amount === 0
      ? null
      : html`<rect class="${tone}" x="${round(at * step + 1)}" y="${round(FLOOR - (below + amount) * scale)}" width="${round(step - 2)}" height="${round(amount * scale)}"><title>${bar.label}: ${amount}</title></rect>`;
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">
<line class="axis" x1="0" x2="${WIDTH}" y1="${FLOOR}" y2="${FLOOR}"/>
<text x="0" y="9">${highest}</text>
${bars.map((bar, at) => [
  piece(bar, at, 'good', bar.good, 0),
  piece(bar, at, 'bad', bar.bad, bar.good),
  piece(bar, at, 'event', bar.rest, bar.good + bar.bad),
])}
<text x="0" y="${HEIGHT - 3}">${bars[0]?.label ?? ''}</text>
<text x="${WIDTH}" y="${HEIGHT - 3}" text-anchor="end">${bars.at(-1)?.label ?? ''}</text>
</svg>`;
}

const round = (value: number): string => value.toFixed(1);
