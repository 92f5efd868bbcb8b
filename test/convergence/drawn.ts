import fc from 'fast-check';
import { shrinkingFor } from '../support/shrinking.ts';
import { recovery, story } from './commands.ts';
import { openLane } from './lane.ts';
import { judge } from './properties.ts';
import { play } from './story.ts';

/** How many stories are played in all; `npm run test:deep` asks for 20,000. */
const CASES = Number(process.env['CASES'] ?? 1_000);
const SEED = Number(process.env['SEED'] ?? Date.now() % 2_147_483_647);
/** Side by side in each of the two halves, so that one works while another waits. */
const LANES = 3;
/** Two files, since each file has a process and so a core of its own. */
const HALVES = 2;
const MS_PER_CASE = 4_000;
const TOLD_EVERY = 500;
/** A red story is made smaller for so long. */
const SHRINKING_MS = 60_000;

/** One half of the drawn stories: what to call it, how long it may take, and the stories themselves. */
export function half(which: 0 | 1): { name: string; timeout: number; play: () => Promise<void> } {
  const cases = Math.ceil(CASES / HALVES);
  return {
    name: `ends in Stripe's own state, told once, over ${cases} cases`,
    timeout: 60_000 + cases * MS_PER_CASE,
    play: () => playHalf(which, cases),
  };
}

async function playHalf(which: 0 | 1, cases: number): Promise<void> {
  const name = `convergence ${which + 1}`;
  console.info(`${name}: ${cases} cases; run again with CASES=${CASES} SEED=${SEED}`);
  const begun = performance.now();
  let played = 0;
  const told = (): void => {
    played += 1;
    if (played % TOLD_EVERY !== 0 || played === cases) return;
    console.info(`${name}: ${played} of ${cases} cases after ${secondsSince(begun).toFixed(0)} s`);
  };
  const results = await Promise.all(
    Array.from({ length: LANES }, async (_, number) => {
      const lane = await openLane();
      try {
        const result = await fc.check(
          fc.asyncProperty(
            story,
            recovery,
            shrinkingFor(SHRINKING_MS, async (commands, by) => {
              await judge(await play(lane, commands, by));
              told();
            }),
          ),
          { numRuns: Math.ceil(cases / LANES), seed: SEED + which * LANES + number },
        );
        // At once: the other lanes may take twenty minutes more.
        const { failed, counterexample, seed, numRuns } = result;
        if (failed)
          console.error(`Seed ${seed}, red at case ${numRuns}: play(lane, ...${inWords(counterexample)})`);
        return result;
      } finally {
        await lane.close();
      }
    }),
  );
  const runs = results.reduce((sum, { numRuns }) => sum + numRuns, 0);
  console.info(`${name}: ${runs} of ${cases} cases, ${(runs / secondsSince(begun)).toFixed(1)} a second`);
  const red = results.filter(({ failed }) => failed);
  if (red.length > 0)
    throw new AggregateError(
      red.map(({ errorInstance }) => errorInstance),
      red.map(({ seed, errorInstance }) => `Seed ${seed}: ${errorInstance}`).join('\n'),
    );
}

const secondsSince = (begun: number): number => (performance.now() - begun) / 1_000;

const inWords = (story: unknown): string => JSON.stringify(story, null, 1).replaceAll(/\n {2,}/g, ' ');
