import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import type { Reporter, Vitest } from 'vitest/node';
import { ROOMS, STATES, sumCounts } from './states.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where each process of a run writes how often it was in which state. */
    statesFolder: string;
  }
}

/** Of a run of one file nearly all are missing, which is no news. */
const NAMED = 60;

type Verdict = { never: readonly string[]; table: string };

/** How often each state was reached, room by room, those that never were in red. */
export function tell(counts: ReadonlyMap<string, number>): Verdict {
  const never = STATES.filter((state) => !counts.has(state));
  const lines = Object.entries(ROOMS).flatMap(([room, states]) => [
    '',
    `  ${room}`,
    ...states.map((state) => {
      const line = `${String(counts.get(state) ?? 0).padStart(9)}  ${state}`;
      return counts.has(state) ? line : styleText('red', line);
    }),
  ]);
  const sum = `${STATES.length - never.length} of ${STATES.length} states were reached`;
  return { never, table: ['', 'How often each state was reached:', ...lines, '', `  ${sum}`].join('\n') };
}

/**
 * Sums at the end of a run what its processes counted. With `STATES=all`, as `npm run test:deep` has it, the run
 * ends red when one state was never reached; any other prints how many were, and which were not.
 */
export default class States implements Reporter {
  #folder: string | null = null;

  onInit(vitest: Pick<Vitest, 'provide'>): void {
    this.#folder = mkdtempSync(join(tmpdir(), 'driftstack-states-'));
    vitest.provide('statesFolder', this.#folder);
  }

  onTestRunEnd(): void {
    if (this.#folder === null) return;
    const counts = sumCounts(this.#folder);
    rmSync(this.#folder, { recursive: true, force: true });
    const isRequired = process.env['STATES'] === 'all';
    // A run of other suites.
    if (counts.size === 0 && !isRequired) return;
    const { never, table } = tell(counts);
    if (isRequired) {
      console.log(table);
      if (never.length === 0) return;
      console.error(styleText('red', `Never reached, so never tested: ${never.join('; ')}`));
      process.exitCode = 1;
      return;
    }
    console.log(`\n  ${STATES.length - never.length} of ${STATES.length} states were reached`);
    if (never.length > 0 && never.length <= NAMED) console.log(`  not in this run: ${never.join('; ')}`);
  }
}
