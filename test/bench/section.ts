import type { BarChart } from './chart.ts';
import type { StartChild } from './child.ts';
import type { Table } from './table.ts';

/** What a section is given; everything it starts ends with the benchmark. */
export type Bench = {
  readonly startChild: StartChild;
  /** A migrated, empty database of its own; a bare one has not even our tables. */
  createDatabase(options?: { isBare?: boolean }): Promise<string>;
  /** A directory that is removed at the end. */
  readonly directory: string;
  /** Says on the terminal what is going on. */
  say(line: string): void;
};

export type Report = {
  readonly tables: readonly Table[];
  /** What a reader must know to understand the figures. */
  readonly notes: readonly string[];
  /** For `results.json`; units in the names. */
  readonly figures: Readonly<Record<string, unknown>>;
  /** What the project has promised itself, and what came of it. */
  readonly goals?: readonly Goal[];
  /** By file name. */
  readonly charts: Readonly<Record<string, BarChart>>;
};

export type Goal = {
  /** Of the list in `test/bench/README.md`. */
  readonly number: number;
  readonly what: string;
  readonly goal: string;
  readonly measured: string;
  readonly isReached: boolean;
};

export type Section = (bench: Bench) => Promise<Report>;
