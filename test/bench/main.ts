import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { drawBars } from './chart.ts';
import { type Child, childStarter, type StartChild } from './child.ts';
import { startPostgres } from './database.ts';
import { drawGoals, goalsTable } from './goals.ts';
import type { Bench, Goal, Report, Section } from './section.ts';
import { credit } from './sections/credit.ts';
import { distance } from './sections/distance.ts';
import { fanOut } from './sections/fan-out.ts';
import { intake } from './sections/intake.ts';
import { localStripe } from './sections/local-stripe.ts';
import { mails } from './sections/mails.ts';
import { memory } from './sections/memory.ts';
import { mint } from './sections/mint.ts';
import { read } from './sections/read.ts';
import { rest } from './sections/rest.ts';
import { isQuick } from './settings.ts';
import { figure, formatTable } from './table.ts';

const SECTIONS = {
  read,
  mint,
  intake,
  distance,
  mails,
  rest,
  credit,
  'fan-out': fanOut,
  'local-stripe': localStripe,
  memory,
} satisfies Record<string, Section>;
type SectionName = keyof typeof SECTIONS;
const NAMES = Object.keys(SECTIONS).filter(isSection);
const FIGURES = new URL('./figures/', import.meta.url);
const RESULTS = new URL('results.json', FIGURES);
const resultsSchema = z.record(z.string(), z.unknown());

const asked = process.argv.slice(2).filter((argument) => argument !== '--write');
const isWriting = process.argv.includes('--write');
const unknown = asked.filter((name) => !isSection(name));
if (unknown.length > 0) {
  console.error(
    `There is no section ${unknown.join(', ')}. Usage: npm run bench -- [--write] [${NAMES.join('] [')}]`,
  );
  process.exit(1);
}
await run(asked.length === 0 ? NAMES : NAMES.filter((name) => asked.includes(name)));

/** A whole run writes the figures, a part of the sections or a quick one only when it is asked to. */
async function run(names: readonly SectionName[]): Promise<void> {
  const startedAt = performance.now();
  const loadBefore = loadavg()[0] ?? 0;
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
    const goals = goalsOf(reports);
    if (goals.length > 0) console.log(`\n${formatTable(goalsTable(goals))}\n`);
    const isWhole = names.length === NAMES.length && !isQuick;
    if (isWhole || isWriting) await write(reports, loadBefore);
    else console.log('A part or a quick run leaves test/bench/figures as it is, without --write.');
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
  await readOnce(startChild, await postgres.createDatabase());
  return {
    directory,
    say,
    createDatabase: (options) => postgres.createDatabase(options),
    async startChild(script, options): Promise<Child> {
      const child = await startChild(script, options);
      closers.push(() => child.close());
      return child;
    },
  };
}

/** Node's compiler for TypeScript stays in memory where it was needed; `npm ci` does the same for the service alone. */
async function readOnce(startChild: StartChild, databaseUrl: string): Promise<void> {
  const roles = ['api', 'webhooks', 'worker'];
  const nobody = { stripeUrl: 'http://127.0.0.1:9', webhookSecret: 'whsec_bench' };
  await (await startChild('product', { databaseUrl, poolMax: 1, roles, ...nobody })).close();
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

function goalsOf(reports: ReadonlyMap<SectionName, Report>): readonly Goal[] {
  const goals = [...reports.values()].flatMap((report) => report.goals ?? []);
  return goals.sort((one, other) => one.number - other.number);
}

async function write(reports: ReadonlyMap<SectionName, Report>, loadBefore: number): Promise<void> {
  const machine: Machine = {
    cpus: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    memoryBytes: totalmem(),
    node: process.version,
    // What else went on: of a machine that is the benchmark's alone, the first of these is about 0.
    loadBefore,
    loadAfter: loadavg()[0] ?? 0,
    isQuick,
  };
  await mkdir(FIGURES, { recursive: true });
  const goals = goalsOf(reports);
  const measured = [...reports].map(([name, report]) => [name, { machine, ...report.figures }]);
  const results = { ...(await readResults()), goals, ...Object.fromEntries(measured) };
  await writeFile(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  await writeFile(new URL('goals.svg', FIGURES), drawGoals(goals, underWhat(machine)));
  for (const { charts } of reports.values())
    for (const [file, chart] of Object.entries(charts))
      await writeFile(new URL(file, FIGURES), drawBars(chart));
  console.log('Written to test/bench/figures.');
}

/** What runs before this one have written; a part of the sections leaves that of the others. */
async function readResults(): Promise<Record<string, unknown>> {
  return resultsSchema.parse(JSON.parse(await readFile(RESULTS, 'utf8')));
}

function underWhat({ cpus: count, cpu, loadBefore, isQuick: quick }: Machine): string {
  const sizes = quick ? 'a quick run with tiny sizes' : 'one run';
  return `${sizes} on ${count} × ${cpu}; ${figure(loadBefore)} other processes wanted a core before it`;
}

type Machine = {
  cpus: number;
  cpu: string;
  memoryBytes: number;
  node: string;
  loadBefore: number;
  loadAfter: number;
  isQuick: boolean;
};

function isSection(name: string): name is SectionName {
  return Object.hasOwn(SECTIONS, name);
}
