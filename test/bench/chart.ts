import { figure } from './table.ts';

export type Bar = {
  readonly label: string;
  readonly value: number;
  /** Written after the figure. */
  readonly remark?: string;
  /** What others are compared with is drawn in grey. */
  readonly isFloor?: boolean;
};

export type BarChart = {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
};

const WIDTH = 760;
const LEFT = 220;
const BAR_ROOM = 250;
const ROW = 30;
const TOP = 52;

/** Horizontal bars on a light card of their own, so that they can be read on a light and on a dark page. */
export function drawBars({ title, unit, bars }: BarChart): string {
  const most = Math.max(...bars.map(({ value }) => value));
  const height = TOP + bars.length * ROW + 10;
  const rows = bars.map(({ label, value, remark, isFloor }, index) => {
    const y = TOP + index * ROW;
    const width = Math.max(2, Math.round((value / most) * BAR_ROOM));
    const words = `${figure(value)}${remark === undefined ? '' : ` · ${remark}`}`;
    return [
      `  <text x="${LEFT - 10}" y="${y + 15}" text-anchor="end" class="word">${escapeXml(label)}</text>`,
      `  <rect x="${LEFT}" y="${y}" width="${width}" height="20" rx="3" class="${isFloor ? 'floor' : 'bar'}"/>`,
      `  <text x="${LEFT + width + 8}" y="${y + 15}" class="figure">${escapeXml(words)}</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escapeXml(title)}">
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600; font-size: 15px }
    .figure { font-variant-numeric: tabular-nums }
    .bar { fill: #635bff }
    .floor { fill: #8c959f }
    .card { fill: #f6f8fa; stroke: #d0d7de }
  </style>
  <rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6" class="card"/>
  <text x="12" y="24" class="title">${escapeXml(title)}</text>
  <text x="12" y="42">${escapeXml(unit)}</text>
${rows.join('\n')}
</svg>
`;
}

/** Text as it may stand in a drawing. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
