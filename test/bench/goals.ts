import { escapeXml } from './chart.ts';
import type { Goal } from './section.ts';
import type { Table } from './table.ts';

/** What the project has promised itself beside what this run measured. */
export function goalsTable(goals: readonly Goal[]): Table {
  return {
    title: 'Goals',
    columns: ['', 'goal', 'measured', ''],
    rows: goals.map(({ number, what, goal, measured, isReached }) => [
      `${number}  ${what}`,
      goal,
      measured,
      isReached ? 'reached' : 'missed',
    ]),
  };
}

const WIDTH = 760;
const ROW = 24;
const TOP = 66;
const GOAL = 420;
const MEASURED = 580;

/** The same as a drawing, with a dot in front of each that says whether it is reached. */
export function drawGoals(goals: readonly Goal[], under: string): string {
  const height = TOP + goals.length * ROW + 6;
  const rows = goals.map(({ number, what, goal, measured, isReached }, index) => {
    const y = TOP + index * ROW;
    const word = (x: number, text: string) => `<text x="${x}" y="${y + 12}">${escapeXml(text)}</text>`;
    const dot = `<circle cx="18" cy="${y + 8}" r="5" class="${isReached ? 'reached' : 'missed'}"/>`;
    return `  ${dot}${word(32, `${number}  ${what}`)}${word(GOAL, goal)}${word(MEASURED, measured)}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Goals and what was measured">
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600; font-size: 15px }
    .head { fill: #57606a }
    .reached { fill: #1a7f37 }
    .missed { fill: #fff; stroke: #cf222e; stroke-width: 2 }
    .card { fill: #f6f8fa; stroke: #d0d7de }
  </style>
  <rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6" class="card"/>
  <text x="12" y="24" class="title">Goals and what was measured</text>
  <text x="12" y="42" class="head">${escapeXml(under)}</text>
  <text x="${GOAL}" y="58" class="head">goal</text><text x="${MEASURED}" y="58" class="head">measured</text>
${rows.join('\n')}
</svg>
`;
}
