import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { drawBars } from './chart.ts';
import { type Child, childStarter } from './child.ts';
import { startPostgres } from './database.ts';
import type { Bench, Report, Section } from './section.ts';
import { credit } from './sections/credit.ts';
import { fanOut } from './sections/fan-out.ts';
import { intake } from './sections/intake.ts';
import { localStripe } from './sections/local-stripe.ts';
import { memory } from './sections/memory.ts';
import { mint } from './sections/mint.ts';
import { read } from './sections/read.ts';
import { formatTable } from './table.ts';

const SECTIONS = {
  read,
  mint,
  intake,
  credit,
  'fan-out': fanOut,
  'local-stripe': localStripe,
  memory,
} satisfies Record<string, Section>;
type SectionName = keyof typeof SECTIONS;
const NAMES = Object.keys(SECTIONS).filter(isSection);
const FIGURES = new URL('./figures/', import.meta.url);

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !isSection(name));
if (unknown.length > 0) {
  console.error(`There is no section ${unknown.join(', ')}. Usage: npm run bench -- [${NAMES.join('] [')}]`);
  process.exit(1);
}
await run(asked.length === 0 ? NAMES : NAMES.filter((name) => asked.includes(name)));

/** Only a whole run writes the figures, so that those in the README always come from one run. */
async function run(names: readonly SectionName[]): Promise<void> {
  const startedAt = performance.now();
  const closers: (() => Promise<void>)[] = [];
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= closeAll(closers);
    return closing;
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void close().then(() => process.exit(130)));
  try {
    const bench = await open(closers, (line) => {
      console.log(`${((performance.now() - startedAt) / 1_000).toFixed(0).padStart(4)} s  ${line}`);
    });
    const reports = new Map<SectionName, Report>();
    for (const name of names) {
      const report = await SECTIONS[name](bench);
      print(report);
      reports.set(name, report);
    }
    if (names.length === NAMES.length) await write(reports);
    else console.log('A part of the sections leaves test/bench/figures as it is; run all to write it.');
  } finally {
    await close();
  }
}

async function open(closers: (() => Promise<void>)[], say: (line: string) => void): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), 'driftstack-bench-'));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  say('starting PostgreSQL');
  const postgres = await startPostgres(join(directory, 'postgres'));
  closers.push(() => postgres.close());
  const startChild = childStarter(directory);
  return {
    directory,
    say,
    createDatabase: () => postgres.createDatabase(),
    async startChild(script, options): Promise<Child> {
      const child = await startChild(script, options);
      closers.push(() => child.close());
      return child;
    },
  };
}

async function closeAll(closers: (() => Promise<void>)[]): Promise<void> {
  for (let closer = closers.pop(); closer; closer = closers.pop()) await closer();
}

function print({ tables, notes }: Report): void {
  for (const table of tables) console.log(`\n${formatTable(table)}`);
  console.log('');
  for (const note of notes) console.log(`  ${note}`);
  console.log('');
}

async function write(reports: ReadonlyMap<SectionName, Report>): Promise<void> {
  const machine = {
    cpus: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    memoryBytes: totalmem(),
    node: process.version,
  };
  await mkdir(FIGURES, { recursive: true });
  const figures = Object.fromEntries([...reports].map(([name, report]) => [name, report.figures]));
  await writeFile(new URL('results.json', FIGURES), `${JSON.stringify({ machine, ...figures }, null, 2)}\n`);
  for (const { charts } of reports.values())
    for (const [file, chart] of Object.entries(charts))
      await writeFile(new URL(file, FIGURES), drawBars(chart));
  console.log('Written to test/bench/figures.');
}

function isSection(name: string): name is SectionName {
  return Object.hasOwn(SECTIONS, name);
}
