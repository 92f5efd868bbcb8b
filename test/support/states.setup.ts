import { afterAll, inject } from 'vitest';
import { writeCounts } from './states.ts';

/** None where the run has other reporters than ours, and nobody sums. */
const folder: string | undefined = inject('statesFolder');

/** After all of a file's tests, so that nothing is lost with a process that the run ends. */
afterAll(() => {
  if (folder !== undefined) writeCounts(folder);
});
