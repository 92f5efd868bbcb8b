import fc from 'fast-check';
import { it } from 'vitest';
import { recovery, story } from './commands.ts';
import { openLane } from './lane.ts';
import { judge } from './properties.ts';
import { play } from './story.ts';

/** How many stories are played; `npm run test:deep` asks for 20,000. */
const CASES = Number(process.env['CASES'] ?? 1_000);
const SEED = Number(process.env['SEED'] ?? Date.now() % 2_147_483_647);
/** Side by side, so that one works while another waits. */
const LANES = 4;
const MS_PER_CASE = 2_000;
const TOLD_EVERY = 1_000;

it(
  `ends in Stripe's own state, told once, over ${CASES} cases`,
  async () => {
    console.info(`convergence: ${CASES} cases; run again with CASES=${CASES} SEED=${SEED}`);
    const begun = performance.now();
    let played = 0;
    const told = (): void => {
      played += 1;
      if (played % TOLD_EVERY !== 0 || played === CASES) return;
      console.info(
        `convergence: ${played} of ${CASES} cases after ${Math.round((performance.now() - begun) / 1_000)} s`,
      );
    };
    const results = await Promise.all(
      Array.from({ length: LANES }, async (_, number) => {
        const lane = await openLane();
        try {
          const result = await fc.check(
            fc.asyncProperty(story, recovery, async (commands, by) => {
              await judge(await play(lane, commands, by));
              told();
            }),
            { numRuns: Math.ceil(CASES / LANES), seed: SEED + number },
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
    const seconds = (performance.now() - begun) / 1_000;
    const runs = results.reduce((sum, { numRuns }) => sum + numRuns, 0);
    console.info(`convergence: ${runs} of ${CASES} cases, ${(runs / seconds).toFixed(1)} a second`);
    const red = results.filter(({ failed }) => failed);
    if (red.length > 0)
      throw new AggregateError(
        red.map(({ errorInstance }) => errorInstance),
        red.map(({ seed, errorInstance }) => `Seed ${seed}: ${errorInstance}`).join('\n'),
      );
  },
  60_000 + CASES * MS_PER_CASE,
);

const inWords = (story: unknown): string => JSON.stringify(story, null, 1).replaceAll(/\n {2,}/g, ' ');
